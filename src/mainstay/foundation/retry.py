"""Try again, but not for ever, and not all at once.

The schedule is pure: full jitter (each pause is a random part of a ceiling that doubles), which spreads
a crowd of retrying clients best. Reasoning: Marc Brooker, "Exponential Backoff And Jitter", AWS, 2015.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")

_uniform = secrets.SystemRandom().random


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often, and how long between."""

    attempts_max: int
    """Calls in all, the first included."""
    first_pause_s: float = 0.1
    pause_max_s: float = 10.0

    def ceilings_s(self) -> Iterator[float]:
        """The longest pause after each failed attempt but the last."""
        for attempt in range(self.attempts_max - 1):
            yield min(self.first_pause_s * 2**attempt, self.pause_max_s)


def pauses_s(schedule: Schedule, *, uniform: Callable[[], float] = _uniform) -> Iterator[float]:
    """The pauses to make. `uniform` returns numbers in [0, 1)."""
    for ceiling_s in schedule.ceilings_s():
        yield ceiling_s * uniform()


def retry(
    operation: Callable[[], Result],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    schedule: Schedule,
    sleep: Callable[[float], None] = time.sleep,
    uniform: Callable[[], float] = _uniform,
) -> Result:
    """Call `operation` until it returns; the last failure is raised as it is.

    Only for operations that may be repeated. Anything not named in `on` is raised at once.
    """
    for pause_s in pauses_s(schedule, uniform=uniform):
        try:
            return operation()
        except on:
            sleep(pause_s)
    return operation()
