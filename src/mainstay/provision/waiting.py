"""Wait for a state with a deadline, and say what was in the log when it did not come."""

import time
from collections.abc import Callable
from pathlib import Path

from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Unavailable

_POLL_S = 0.05
_SHOWN_LINES = 25
_READ_BYTES_MAX = 20_000


class StackFailed(Unavailable):
    """A part of the stack did not do within its time what it should; the message ends with its log."""

    def __init__(self, what: str, *, log: Path | None) -> None:
        super().__init__(f"{what}\n{tail(log)}" if log else what)


def wait_until(
    condition: Callable[[], bool],
    *,
    within_s: float,
    what: str,
    log: Path | None = None,
    still_possible: Callable[[], bool] = lambda: True,
) -> None:
    """Raises `StackFailed` after `within_s`, or at once when it is not possible any more."""
    until_s = SYSTEM.monotonic_s() + within_s
    while not condition():
        if not still_possible():
            raise StackFailed(f"{what}: its process ended", log=log)
        if SYSTEM.monotonic_s() > until_s:
            raise StackFailed(f"{what}: not within {within_s:.0f} s", log=log)
        time.sleep(_POLL_S)


def tail(log: Path) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _READ_BYTES_MAX))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join([f"--- end of {log}", *lines[-_SHOWN_LINES:]])
