"""One `serve` for a data directory: held by the kernel, so a killed one leaves nothing behind."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mainstay.foundation.errors import Conflict


class AlreadyRunning(Conflict):
    """Another `serve` has this data directory."""


@contextmanager
def pid_lock(file: Path) -> Iterator[None]:
    """Hold the lock for the block and name this process in the file. Raises `AlreadyRunning` at once."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor, file)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, file: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise AlreadyRunning(
            f"a `mainstay serve` (process {holder}) already uses {file.parent.parent}; "
            "stop it first, or choose another --data"
        ) from None
