"""A lock between the processes and threads of a machine: a file that is held for a block.

The kernel holds it (`flock`), so a killed holder leaves nothing behind.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Wait for the lock file, made when missing, and hold it. Raises `OSError` when it cannot be opened.

    Each call opens the file for itself, so two threads of one process wait for one another, too.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
