"""Room on the disk of the cache: is it short, is the disk usable at all?

Pushes wait on the same disk, and so does the database of a single node. So some of it is kept free, and
what the cache has gives way.
"""

import errno
import os
from pathlib import Path

from mainstay.foundation.ids import new_ulid

_RESERVE_BYTES = 1 << 30
_RESERVE_PART = 50
_FILES_MIN = 500
_PROBE = b"x" * 4096
_FULL = {errno.ENOSPC, errno.EDQUOT}


def is_full(failed: BaseException) -> bool:
    """Whether an error, or what it came from, says that a disk is full."""
    causes = (failed, failed.__cause__)
    return any(isinstance(cause, OSError) and cause.errno in _FULL for cause in causes)


def short_bytes(directory: Path) -> int:
    """How much less is free than is to be kept free: 1 GiB, or a fiftieth of a small disk. 0 when enough is.

    A disk that has no names left for files is as short as one that has no bytes.
    """
    facts = os.statvfs(directory)
    reserve = min(_RESERVE_BYTES, facts.f_blocks * facts.f_frsize // _RESERVE_PART)
    if facts.f_files > 0 and facts.f_favail < min(_FILES_MIN, facts.f_files // _RESERVE_PART):
        return reserve
    return max(0, reserve - facts.f_bavail * facts.f_frsize)


def problem_of(directory: Path) -> str:
    """Why nothing can be written in `directory`; empty when all is well. Tries it with one small file."""
    probe = directory / f"probe-{new_ulid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(_PROBE)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as refused:
        return f"cannot write to the local disk: {refused.strerror}"
    return ""
