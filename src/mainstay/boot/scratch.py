"""A directory of its own for every process that lays out files: a command, the worker, the API.

`DATA/scratch/<ulid>` belongs to the process that made it for as long as that holds its lock, which the
kernel takes away when the process ends. So nobody empties the directory of a command that still runs,
however old it is, and what a killed one left is known to be nobody's.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mainstay.boot.layout import Layout
from mainstay.foundation.file_locks import held
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import get_logger

log = get_logger()


@contextmanager
def scratch_directory(layout: Layout) -> Iterator[Path]:
    """Make an empty directory and remove it, with all that is in it, at the end of the block."""
    layout.scratch.mkdir(mode=0o700, exist_ok=True)
    directory = layout.scratch / new_ulid()
    with _turn(layout):  # between its birth and its lock nobody may take it for abandoned
        directory.mkdir(mode=0o700)
        lock = _try_lock(directory)
    assert lock is not None, "nobody else knows its name"
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # what a child still writes is left to the chore
        os.close(lock)


def remove_abandoned(layout: Layout) -> int:
    """Remove the directories whose process is gone; return how many there were."""
    if not layout.scratch.is_dir():
        return 0
    with _turn(layout):
        directories = [entry for entry in layout.scratch.iterdir() if entry.is_dir()]
        abandoned = [(each, lock) for each in directories if (lock := _try_lock(each)) is not None]
    for directory, lock in abandoned:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)
    if abandoned:
        log.info("boot.scratch_removed", directories=len(abandoned))
    return len(abandoned)


@contextmanager
def _turn(layout: Layout) -> Iterator[None]:
    with held(layout.scratch / ".lock"):
        yield


def _try_lock(directory: Path) -> int | None:
    """A descriptor that holds the directory, or None when somebody else does, or has just removed it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
