"""Can this node write to its disk? Tried every few seconds, in a thread: a disk may hang.

Only by writing, not by syncing: a disk that is slow makes nobody leave the rotation.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from mainstay.cache.room import problem_of
from mainstay.foundation.logs import get_logger

_EVERY_S = 2.0
_HANGS_AFTER_S = 30.0

log = get_logger()


class DiskWatch:
    """Why the disk at `directory` is unusable, as of a moment ago."""

    def __init__(self, directory: Path, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._monotonic_s = monotonic_s
        self._found = ""
        self._looked_at_s = monotonic_s()
        self._stop = threading.Event()

    @property
    def problem(self) -> str:
        """Empty when all is well."""
        silent_s = self._monotonic_s() - self._looked_at_s
        return self._found or (
            f"the local disk has not answered for {silent_s:.0f} s" if silent_s > _HANGS_AFTER_S else ""
        )

    def start(self) -> None:
        threading.Thread(target=self._watch, name="disk", daemon=True).start()

    def stop(self) -> None:
        """Waits for nothing: the thread may be inside a disk that hangs."""
        self._stop.set()

    def look(self) -> None:
        found = problem_of(self._directory)
        if found != self._found:
            log.warning("disk.state_changed", problem=found)
        self._found = found
        self._looked_at_s = self._monotonic_s()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(_EVERY_S)
