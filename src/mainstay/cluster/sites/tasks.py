"""Objects to pull: who comes first, who has to wait after a failure, and what is under way.

An object that fails again and again waits longer each time, and holds up nobody else.
"""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

_PAUSE_S: Final = 0.5
_PAUSE_S_MAX: Final = 30.0


@dataclass(frozen=True, slots=True)
class Task:
    """One object that is missing here, or may be."""

    key: str
    size_bytes: int
    at_ms: int
    """When it was stored there, by the clock there; 0: long ago."""
    start: int = -1
    """Its stretch of the feed; -1: it was found by a comparison."""
    end: int = -1
    feed: str = ""
    """The identity of that feed, or of the one at the beginning of the comparison."""
    failures: int = 0


class Tasks:
    """Safe for threads."""

    def __init__(self, *, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._changed = threading.Condition()
        self._ready: deque[Task] = deque()
        self._later: list[tuple[float, int, Task]] = []
        self._order = itertools.count()
        self._under_way: set[Task] = set()
        self._is_paused = False

    def put(self, task: Task) -> None:
        with self._changed:
            self._ready.append(task)
            self._changed.notify_all()

    def take(self, limit_s: float) -> Task | None:
        """The next that is due, or None within the limit. `done` or `again` must follow."""
        with self._changed:
            task = self._next()
            if task is None:
                self._changed.wait(min(limit_s, self._due_in_s()))
                task = self._next()
            if task is not None:
                self._under_way.add(task)
            return task

    def take_more(self, most: int, *, fits: Callable[[Task], bool]) -> list[Task]:
        """What is ready as well and fits, without waiting. `done` or `again` must follow for each."""
        with self._changed:
            found: list[Task] = []
            while len(found) < most and self._ready and not self._is_paused and fits(self._ready[0]):
                found.append(self._ready.popleft())
            self._under_way.update(found)
            return found

    def done(self, task: Task) -> None:
        with self._changed:
            self._under_way.discard(task)
            self._changed.notify_all()

    def again(self, task: Task) -> None:
        """It failed."""
        with self._changed:
            self._under_way.discard(task)
            pause_s = min(_PAUSE_S * 2**task.failures, _PAUSE_S_MAX)
            failed = replace(task, failures=min(task.failures + 1, 16))
            heapq.heappush(self._later, (self._monotonic_s() + pause_s, next(self._order), failed))
            self._changed.notify_all()

    def pause(self, is_paused: bool) -> None:
        """Hand nothing out for a while."""
        with self._changed:
            self._is_paused = is_paused
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget what is not under way."""
        with self._changed:
            self._ready.clear()
            self._later.clear()
            self._changed.notify_all()

    def any_compared(self) -> bool:
        """Whether something is left that a comparison has found."""
        return any(task.start < 0 for task in self.left)

    def wait_below(self, most: int, limit_s: float) -> bool:
        """Whether fewer than so many are left, by now or within the limit."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count() < most, limit_s)

    @property
    def left(self) -> Collection[Task]:
        """Everything that is not done."""
        with self._changed:
            return [*self._under_way, *self._ready, *(task for _, _, task in self._later)]

    def _count(self) -> int:
        return len(self._ready) + len(self._later) + len(self._under_way)

    def _next(self) -> Task | None:
        if self._is_paused:
            return None
        if self._later and self._later[0][0] <= self._monotonic_s():
            return heapq.heappop(self._later)[2]
        return self._ready.popleft() if self._ready else None

    def _due_in_s(self) -> float:
        return max(0.0, self._later[0][0] - self._monotonic_s()) if self._later else _PAUSE_S_MAX
