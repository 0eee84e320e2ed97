"""Hear at once when something in a directory changes, instead of looking again and again.

By inotify where there is one. Elsewhere, and when the user has no more of them, `descriptor` is None and who
waits has to look every `LOOK_S`.
"""

import ctypes
import os
import select
import sys
import time
from pathlib import Path
from typing import Final

LOOK_S: Final = 0.01
"""How often to look where nobody tells."""

_MODIFY: Final = 0x2
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_NONBLOCK: Final = os.O_NONBLOCK
_EVENTS_BYTES: Final = 64 * 1024


class Watch:
    """One directory, watched until `close`. For one thread, or one event loop."""

    def __init__(self, directory: Path) -> None:
        self.descriptor = _watched(directory) if sys.platform == "linux" else None

    def wait(self, limit_s: float) -> None:
        """Until something may have changed, or the limit is over."""
        if self.descriptor is None:
            time.sleep(min(limit_s, LOOK_S))
            return
        waiting = select.poll()
        waiting.register(self.descriptor, select.POLLIN)
        if waiting.poll(limit_s * 1000):
            self.clear()

    def clear(self) -> None:
        """Forget what has happened so far."""
        if self.descriptor is None:
            return
        try:
            while os.read(self.descriptor, _EVENTS_BYTES):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _watched(directory: Path) -> int | None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.inotify_init1(_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:
        return None
    mask = _MODIFY | _MOVED_TO | _CREATE
    if libc.inotify_add_watch(descriptor, os.fsencode(directory), mask) < 0:
        os.close(descriptor)
        return None
    return descriptor
