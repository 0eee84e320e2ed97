"""Where objects of the primary land: half downloads, the store, and what has to make room for them.

A half download is gone on with by the next life of the process, but not after a boot of the machine: it was
not synced. Other bytes under a key of the primary are set aside, never dropped, because this site may have
been a primary itself.

One at a time has the place of a key, of all threads and processes: a comparison and the feed may name the
same object, and the puller of yesterday's primary may not have ended yet.
"""

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from mainstay.foundation.boots import boot_id
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.logs import get_logger
from mainstay.storage.objects import KeyTaken, ObjectStore

log = get_logger()

DOWNLOADED: Final = declare("sites.downloaded", "an object of the primary is here, not yet in the store")
PULLED: Final = declare("sites.pulled", "an object of the primary is in the store, not yet counted as done")

_NAMED_MAX: Final = 100


class BeingPulled(Unavailable):
    """Somebody else has that place. When he leaves, the object is there, or the place is free."""


class Landing:
    """In one directory, on the disk of the store. Safe for threads, a key at a time."""

    def __init__(self, store: ObjectStore, directory: Path, *, set_aside: Sequence[str] = ()) -> None:
        self._store = store
        self._directory = directory
        self._lock = threading.Lock()
        self._under_way: set[Path] = set()
        self.set_aside = list(set_aside)
        """The last keys under which other bytes were here, which are in `aside/` now."""

    def prepare(self) -> None:
        """Before the first object: forget what another boot has left."""
        folder, boot = self._directory / "partial", boot_id()
        folder.mkdir(exist_ok=True)
        mark = folder / "boot"
        if boot and mark.exists() and mark.read_text() == boot:
            return
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
        mark.write_text(boot)

    @contextmanager
    def place(self, key: str) -> Iterator[Path]:
        """A file for the object, perhaps with a half of it. Raises `BeingPulled`."""
        partial = self._directory / "partial" / sha256(key.encode()).hexdigest()[:40]
        with _held(partial):
            with self._lock:
                self._under_way.add(partial)
            try:
                yield partial
            finally:
                with self._lock:
                    self._under_way.discard(partial)

    def store(self, key: str, partial: Path) -> int:
        """Give the object its key, durably; return its size."""
        failpoint(DOWNLOADED)
        size_bytes = partial.stat().st_size
        try:
            self._store.put(key, partial)
        except KeyTaken:
            self._make_room(key)
            self._store.put(key, partial)
        failpoint(PULLED)
        partial.unlink(missing_ok=True)
        return size_bytes

    @property
    def half_bytes(self) -> int:
        """What has come of objects that are under way."""
        with self._lock:
            return sum(map(_size, self._under_way))

    def _make_room(self, key: str) -> None:
        target = self._directory / "aside" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        self._store.fetch(key, target)
        self._store.delete(key)
        log.warning("sites.object_set_aside", key=key, kept_in=str(target))
        self.set_aside.append(key)
        del self.set_aside[:-_NAMED_MAX]


@contextmanager
def _held(partial: Path) -> Iterator[None]:
    """The file, made if it is not there, locked for us. It is never one that the store has, too."""
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BeingPulled("this object is on its way already") from None
        facts = os.fstat(descriptor)
        if facts.st_nlink > 1:  # somebody died between giving it to the store and taking the name away
            partial.unlink(missing_ok=True)
        if facts.st_nlink != 1 or not _is_at(partial, facts.st_ino):
            raise BeingPulled("this object has just come")
        yield
    finally:
        os.close(descriptor)


def _is_at(file: Path, inode: int) -> bool:
    try:
        return file.stat().st_ino == inode
    except FileNotFoundError:
        return False


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
