"""Objects as files in a directory: durable, atomic, never overwritten.

The order of a `put`, and what a crash after each step leaves:

1. the bytes are written under a temporary name in the root (`.tmp-<ulid>`): a leftover, which no reader
   sees and which is removed at a later start when it is a day old;
2. the file is synced: the same;
3. the file is linked under its key, which fails when the key is taken: visible and whole, but a power cut
   may still forget the name;
4. the directory is synced, and at its first use by this process every directory above it too: safe.

Only then does `put` return. A regular file on the same file system is linked rather than copied: steps 1
and 2 become one sync of the source.

Temporary names are all in the root, so that finding leftovers never means walking the store. Directories
are never removed: another process may be about to link into them.
"""

import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.ids import new_ulid
from mainstay.storage.objects import CONTENT_BYTES_MAX, KeyTaken, NoSuchObject, StoredObject
from mainstay.storage.objects.durable import create_synced, disk_errors, make_folder, sync_path, try_link
from mainstay.storage.objects.keys import checked_key, checked_prefix, folder_of
from mainstay.storage.objects.ranges import end_of

FILE_WRITTEN: Final = declare("objects.file_written", "the bytes are in a temporary file, not yet synced")
FILE_SYNCED: Final = declare("objects.file_synced", "the file is synced, not yet visible under its key")
LINKED: Final = declare("objects.linked", "the file is visible under its key, its directory not yet synced")

LEFTOVER_AGE_MS: Final = 24 * 60 * 60 * 1000
"""Temporary files older than this belong to a dead process: a `put` is bounded by its upload intent."""

_TEMPORARY = ".tmp-"
_COMPARED_BYTES = 1 << 20
_KNOWN_FOLDERS_MAX = 100_000


class DirectoryStore:
    """Objects under `root`, which is made if it is not there. Safe for threads and for processes."""

    def __init__(self, root: Path, *, clock: Clock = SYSTEM) -> None:
        self._root = root.absolute()
        self._clock = clock
        self._lock = Lock()
        self._synced_folders: set[Path] = set()
        with disk_errors("open the directory"):
            make_folder(self._root)
            self._device = self._root.stat().st_dev
            self._remove_leftovers()

    def put(self, key: str, source: Path) -> None:
        target = self._path(key)
        facts = source.lstat()
        with disk_errors("store an object"):
            self._prepare_folder(target.parent)
            if stat.S_ISREG(facts.st_mode) and self._link_source(source, target, key):
                return
            with source.open("rb") as content:
                self._write(target, content, key)

    def put_bytes(self, key: str, content: bytes) -> None:
        assert len(content) <= CONTENT_BYTES_MAX, "large content comes from a file"
        target = self._path(key)
        with disk_errors("store an object"):
            self._prepare_folder(target.parent)
            self._write(target, io.BytesIO(content), key)

    def get_bytes(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        path = self._path(key)
        with disk_errors("read an object"):
            try:
                reader = path.open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise self._missing(key) from None
            with reader:
                end = end_of(os.fstat(reader.fileno()).st_size, start=start, length=length)
                reader.seek(start)
                return reader.read(end - start)

    def fetch(self, key: str, target: Path) -> None:
        path = self._path(key)
        with disk_errors("fetch an object"):
            if not path.is_file():
                raise self._missing(key)
            try:
                linked = try_link(path, target)
            except FileExistsError:
                linked = False
            if not linked:
                _replace(path, target)

    def size_bytes(self, key: str) -> int | None:
        with disk_errors("look at an object"):
            try:
                facts = self._path(key).stat()
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                return None
            return facts.st_size if stat.S_ISREG(facts.st_mode) else None

    def delete(self, key: str) -> None:
        path = self._path(key)
        with disk_errors("delete an object"):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._check_root()
                return
            # Else a power cut could bring back a file that no row names any more.
            sync_path(path.parent)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        folder = self._root / folder_of(checked_prefix(prefix))
        with disk_errors("list objects"):
            self._check_root()
            for path, facts in _files_below(folder):
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix):
                    yield StoredObject(key, facts.st_size, facts.st_mtime_ns // 1_000_000)

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _link_source(self, source: Path, target: Path, key: str) -> bool:
        """Sync `source` and give it its key; False when it must be copied instead."""
        failpoint(FILE_WRITTEN)
        sync_path(source)
        failpoint(FILE_SYNCED)
        try:
            if not try_link(source, target):
                return False
        except FileExistsError:
            _settle_taken(source, target, key)
        failpoint(LINKED)
        sync_path(target.parent)
        return True

    def _write(self, target: Path, content: BinaryIO, key: str) -> None:
        """Write a file under a temporary name, sync it, and give it its key unless other bytes have it."""
        temporary = self._root / f"{_TEMPORARY}{new_ulid()}"
        try:
            create_synced(temporary, content, before_sync=lambda: failpoint(FILE_WRITTEN))
            failpoint(FILE_SYNCED)
            try:
                os.link(temporary, target)
            except FileExistsError:
                _settle_taken(temporary, target, key)
            failpoint(LINKED)
            sync_path(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def _prepare_folder(self, folder: Path) -> None:
        """Make the folder, and be sure that its whole path is durable.

        That a folder exists says nothing: another process may have made it and not yet synced the folder
        above. So each process syncs each path once.
        """
        if folder in self._synced_folders and folder.is_dir():
            return
        self._check_root()
        steps = [folder, *folder.parents][: len(folder.relative_to(self._root).parts)]
        for step in reversed(steps):
            step.mkdir(exist_ok=True)
            sync_path(step.parent)
        with self._lock:
            if len(self._synced_folders) >= _KNOWN_FOLDERS_MAX:
                self._synced_folders.clear()
            self._synced_folders.add(folder)

    def _check_root(self) -> None:
        """Tell "there is no such object" from "the disk with the objects is not mounted"."""
        try:
            device = self._root.stat().st_dev
        except FileNotFoundError:
            device = -1
        if device != self._device:
            raise Unavailable("the directory of the object store is gone: is its disk mounted?")

    def _missing(self, key: str) -> NoSuchObject:
        self._check_root()
        return NoSuchObject(f"object {key!r} is not in the store")

    def _remove_leftovers(self) -> None:
        oldest_kept_ms = self._clock.now_ms() - LEFTOVER_AGE_MS
        with os.scandir(self._root) as entries:
            for entry in entries:
                if entry.name.startswith(_TEMPORARY) and _changed_ms(entry) < oldest_kept_ms:
                    Path(entry.path).unlink(missing_ok=True)


def _replace(path: Path, target: Path) -> None:
    """Put the file, or a copy of it, in the place of whatever `target` is now."""
    temporary = target.with_name(f"{_TEMPORARY}{new_ulid()}")
    try:
        if not try_link(path, temporary):
            shutil.copyfile(path, temporary)
        temporary.replace(target)
    finally:
        # Renaming onto another name of the same file does nothing and leaves both names (POSIX).
        temporary.unlink(missing_ok=True)


def _settle_taken(source: Path, target: Path, key: str) -> None:
    """The key is taken: fine when by equal bytes, which may not be synced yet by whoever put them."""
    if not _are_equal(source, target):
        raise KeyTaken(f"object {key!r}: other bytes are stored under this key")
    sync_path(target)


def _are_equal(one: Path, other: Path) -> bool:
    if one.samefile(other):
        return True
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while chunk := left.read(_COMPARED_BYTES):
            if chunk != right.read(len(chunk)):
                return False
    return True


def _files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Regular files under `folder` that are objects; what vanishes meanwhile is left out."""
    waiting = [folder]
    while waiting:
        for path in _paths_in(waiting.pop()):
            try:
                facts = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(facts.st_mode):
                waiting.append(path)
            elif stat.S_ISREG(facts.st_mode):
                yield path, facts


def _paths_in(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _changed_ms(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return 0
