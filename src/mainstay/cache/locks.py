"""Locks between the processes of a node, on files that vanish with the cache.

`flock` belongs to the open file, so it ends with the process however that ends: a killed reader never
leaves a copy pinned.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mainstay.foundation.file_locks import held


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` alone; waits for whoever holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path):
        yield


def try_exclusive(path: Path) -> int | None:
    """Open and lock an existing file at once; None when somebody holds it or it is gone.

    The caller closes the descriptor, which ends the lock.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def shared(path: Path) -> int | None:
    """Open and lock an existing file together with other readers; None when it is gone.

    The file may be unlinked between the open and the lock, so its path is looked at again afterwards.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except FileNotFoundError:
        return None
    try:
        still_there = path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        still_there = False
    if not still_there:
        os.close(descriptor)
        return None
    return descriptor
