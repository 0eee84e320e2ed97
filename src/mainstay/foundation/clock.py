"""The only source of time.

Stored times are whole milliseconds since the epoch, UTC (`*_ms`): one integer type in both databases,
no time zones to lose. Durations are measured on the monotonic clock and never on the wall clock.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """`SystemClock` in life, `ManualClock` in tests."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC. May jump; never use it to measure a duration."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes backwards."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_s = 0.0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._now_ms += int(seconds * 1000)
        self._monotonic_s += seconds


SYSTEM = SystemClock()


def iso8601(at_ms: int) -> str:
    """The form the API shows: `2026-11-21T07:43:00.000Z`."""
    at = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
