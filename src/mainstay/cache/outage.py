"""Is the database away, since when, and may reads go on from what was known?"""

from collections.abc import Callable
from dataclasses import dataclass

from mainstay.foundation.clock import Clock
from mainstay.storage.database import DatabaseAway

_AWAY_S = 2.0
"""A failed look and so long without a good one: a lost connection or a slow moment is no outage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What two questions to a prober say together."""

    last_failed: Callable[[], bool]
    """Whether the last look at the database failed."""
    seen_ago_s: Callable[[], float]
    """How long ago the last good one was."""
    window_s: int
    """For how long after that reads may go on."""
    clock: Clock

    @property
    def is_on(self) -> bool:
        return self.last_failed() and self.seen_ago_s() > _AWAY_S

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
