"""Wait for a database that is away, and try again: a failover is a slow push, not a failed one.

Only for work that may be repeated, and not for ever: the time runs from the first failure. The decision is
pure; sleeping is the caller's, in a thread here and in an event loop in `repository.holding`.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mainstay.foundation.logs import get_logger
from mainstay.storage.database import DatabaseAway, DatabaseCutOff

Result = TypeVar("Result")

_FIRST_PAUSE_S = 0.1
_PAUSE_S_MAX = 1.0

_uniform = secrets.SystemRandom().random
log = get_logger()


def next_pause_s(attempt: int, *, held_s: float, hold_s: float, jitter: float) -> float | None:
    """How long to wait before attempt number `attempt` + 1, or None when there was waiting enough.

    `jitter` is in [0, 1): a crowd should not come back all at once. The last pause ends when the hold does,
    so that a database which comes back at the last moment is still found.
    """
    if held_s >= hold_s:
        return None
    ceiling_s = min(_FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 10), _PAUSE_S_MAX)
    return min(ceiling_s * (0.5 + jitter / 2), hold_s - held_s)


def reason_to_stop(failed: Exception, *, held_s: float, hold_s: float, may_leave: bool) -> str | None:
    """Why not to wait any longer; None: wait.

    `may_leave`: no commit was sent whose outcome is open, so the same can be asked of another node. Where
    that one would do, whoever waits here only waits longer.
    """
    if may_leave and isinstance(failed, DatabaseCutOff):
        return "another node reaches the database"
    if held_s >= hold_s:
        return "it was waited for long enough"
    return None


@dataclass(slots=True)
class Patience:
    """Of one push or request. Starts to run out at its first failure."""

    hold_s: float
    clock_s: Callable[[], float] = time.monotonic
    attempts: int = 0
    first_failure_s: float | None = None
    event: str = "database.awaited"
    """What the log says when the waiting begins."""
    may_leave: bool = True

    def after_failure(self, reason: Exception) -> float | None:
        """The pause before the next attempt; None: give up."""
        now_s = self.clock_s()
        if self.first_failure_s is None:
            self.first_failure_s = now_s
        self.attempts += 1
        held_s = now_s - self.first_failure_s
        if reason_to_stop(reason, held_s=held_s, hold_s=self.hold_s, may_leave=self.may_leave):
            return None
        pause_s = next_pause_s(self.attempts, held_s=held_s, hold_s=self.hold_s, jitter=_uniform())
        if self.attempts == 1 and pause_s is not None:
            log.warning(self.event, hold_s=self.hold_s, reason=str(reason))
        return pause_s


@dataclass(frozen=True, slots=True)
class Hold:
    """How long pushes of this process wait."""

    hold_s: float = 0.0
    sleep: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic

    def patience(self) -> Patience:
        return Patience(self.hold_s, self.clock_s)

    def through(
        self,
        attempt: Callable[[], Result],
        *,
        on: type[Exception] | tuple[type[Exception], ...] = DatabaseAway,
        patience: Patience | None = None,
    ) -> Result:
        """Repeat `attempt` while it raises one of `on` and the hold lasts; then raise the last one."""
        patience = patience or self.patience()
        while True:
            try:
                return attempt()
            except on as failed:
                pause_s = patience.after_failure(failed)
                if pause_s is None:
                    raise
            self.sleep(pause_s)


NO_HOLD = Hold()
