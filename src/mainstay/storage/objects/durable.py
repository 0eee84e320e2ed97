"""Making bytes and names survive a power cut on this machine.

A file is safe when its content is synced *and* the directory that names it is synced *and* so is every
directory above that is new. Forgetting the last is the classic way to lose a file that was written well.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mainstay.foundation.errors import Unavailable

_F_FULLFSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)

_REASONS = {
    errno.ENOSPC: "its disk is full",
    errno.EDQUOT: "its disk quota is used up",
    errno.EIO: "its disk reports an input/output error",
    errno.EROFS: "its file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ESTALE: "its network file system went away",
    errno.EMFILE: "this process has too many files open",
    errno.ENFILE: "this machine has too many files open",
}

_NO_LINK_HERE = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS}


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn what a disk can say into `Unavailable` with a clear sentence."""
    try:
        yield
    except OSError as problem:
        reason = _REASONS.get(problem.errno or 0) or (problem.strerror or "unknown error").lower()
        raise Unavailable(f"cannot {doing} in the object store: {reason}", retry_after_s=30) from problem


def sync_file(descriptor: int) -> None:
    """Return when the content of the open file survives a power cut."""
    if _F_FULLFSYNC is not None:
        # On macOS fsync(2) stops at the drive's volatile cache; this goes through it.
        fcntl.fcntl(descriptor, _F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_path(path: Path) -> None:
    """`sync_file` for a file or a directory by name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def create_synced(target: Path, content: BinaryIO, *, before_sync: Callable[[], None]) -> None:
    """Write a new read-only file and sync it; `target` must not exist. Does not sync its directory."""
    with target.open("xb") as writer:
        os.fchmod(writer.fileno(), 0o444)
        shutil.copyfileobj(content, writer, 1 << 20)
        writer.flush()
        before_sync()
        sync_file(writer.fileno())


def make_folder(folder: Path) -> None:
    """Make a directory and those above it; the names of the new ones survive a power cut."""
    missing = [step for step in (folder, *folder.parents) if not step.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for step in reversed(missing):
        sync_path(step.parent)


def try_link(source: Path, target: Path) -> bool:
    """Give the file a second name; False where the file system cannot.

    Raises `FileExistsError` when `target` is taken, `FileNotFoundError` when `source` is not there.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as problem:
        if problem.errno in _NO_LINK_HERE:
            return False
        raise
    return True
