"""Is the database away, since when, and may reads go on from what was known?

What was known a while ago may be answered only while nobody can push. So before the first thing that a
request takes from memory somebody asks, after the request came (`is_certain`); what was found holds for the
rest of that request (`one_request`), so that all of its answer is from one side.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mainstay.foundation.clock import Clock
from mainstay.storage.database import DatabaseAway

_AWAY_S = 2.0
"""A failed look and so long without a good one: a lost connection or a slow moment is no outage."""


@dataclass(slots=True)
class _Request:
    """What was found out since it came; seen by all threads that work for it."""

    is_certain: bool = False


_REQUEST: ContextVar[_Request | None] = ContextVar("request_in_an_outage", default=None)


@contextmanager
def one_request() -> Iterator[None]:
    """What happens in the block, also in threads that inherit its context, is one request that came now."""
    before = _REQUEST.set(_Request())
    try:
        yield
    finally:
        _REQUEST.reset(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What two questions to a prober say together, and a third to all nodes."""

    last_failed: Callable[[], bool]
    """Whether the last look at the database failed."""
    seen_ago_s: Callable[[], float]
    """How long ago the last good one was."""
    window_s: int
    """For how long after that reads may go on."""
    clock: Clock
    is_certain: Callable[[], bool]
    """Whether nobody reaches the database, found out after the call. Blocks for seconds at most."""

    @property
    def is_on(self) -> bool:
        """Whether to answer from memory."""
        if not (self.last_failed() and self.seen_ago_s() > _AWAY_S):
            return False
        request = _REQUEST.get()
        if request is None:
            return self.is_certain()
        request.is_certain = request.is_certain or self.is_certain()
        return request.is_certain

    @property
    def seen_ms(self) -> int:
        """When the database was last seen, by this machine's clock."""
        return self.clock.now_ms() - int(self.seen_ago_s() * 1000)

    def check_window(self) -> int:
        """How many seconds ago the database was seen. Raises `DatabaseAway` when that is too long ago."""
        ago_s = int(self.seen_ago_s())
        if ago_s > self.window_s:
            raise DatabaseAway(
                f"the database has been away for {ago_s} s; reads go on without it for {self.window_s} s only"
            )
        return ago_s
