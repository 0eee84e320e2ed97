"""How it went for the clients: counts, and the longest time without a success."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock


@dataclass(slots=True)
class Tally:
    """Filled by many threads. Times are of one monotonic clock, in seconds."""

    done: Counter[str] = field(default_factory=Counter)
    """By kind of operation: a truthful answer, refusals for a stale value included."""
    failed: Counter[str] = field(default_factory=Counter)
    """By kind: no answer, or one that says that the server could not."""
    failed_twice: Counter[str] = field(default_factory=Counter)
    """By kind: the attempt after a failed one failed too."""
    reasons: Counter[str] = field(default_factory=Counter)
    _successes_s: list[float] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def succeed(self, kind: str, at_s: float) -> None:
        with self._lock:
            self.done[kind] += 1
            self._successes_s.append(at_s)

    def fail(self, kind: str, reason: str, *, again: bool) -> None:
        with self._lock:
            self.failed[kind] += 1
            self.failed_twice[kind] += again
            self.reasons[f"{kind}: {reason}"[:160]] += 1

    @property
    def operations(self) -> int:
        return self.done.total() + self.failed.total()

    def availability(self, *, with_retry: bool) -> float:
        """Share of operations that were answered; with `retry`, those that the next attempt mended count."""
        lost = (self.failed_twice if with_retry else self.failed).total()
        return 1 - lost / max(1, self.operations)

    def mark(self) -> tuple[int, int, int]:
        """Where the counts are now, for `availability_since`."""
        with self._lock:
            return self.operations, self.failed.total(), self.failed_twice.total()

    def availability_since(self, mark: tuple[int, int, int]) -> tuple[float, float]:
        """As `availability`, without and with a retry, of what came after `mark`."""
        operations, failed, twice = (now - then for now, then in zip(self.mark(), mark, strict=True))
        return 1 - failed / max(1, operations), 1 - twice / max(1, operations)

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        """The longest time in the window without any client succeeding."""
        with self._lock:
            times = sorted(self._successes_s)
        inside = times[bisect_left(times, since_s) : bisect_left(times, until_s)]
        marks = [since_s, *inside, until_s]
        return max(after - before for before, after in pairwise(marks))
