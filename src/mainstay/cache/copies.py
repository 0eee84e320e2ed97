"""Bare repositories for child processes to read, made of hard links to the node's packs.

A copy belongs to one repository and one manifest version. While that version lasts it only ever gains
packs, which no running process minds; compaction makes a new version and therefore a new directory, and
the old one goes when its last reader has left. So a request reads from a pinned view, and nothing is ever
taken out of a directory that serves.

Layout: `copies/<uid>/<manifest version>/` with `pin` (the readers' lock), `HEAD`, `config`, `objects/`.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from mainstay.cache.locks import exclusive, shared, try_exclusive
from mainstay.cache.mending import Mender, stamp_of
from mainstay.cache.packs import PackStore, files_of
from mainstay.cache.room import is_full, short_bytes
from mainstay.cache.settings import CacheSettings
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.git.native.run import GitFailed, GitPlace
from mainstay.storage.ledger import Ledger, Pack
from mainstay.storage.objects import NoSuchObject, ObjectStore

_ATTEMPTS_MAX = 5
_TOUCH_EVERY_S = 60
_ROOM_BYTES = 8 << 20
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"


log = structlog.get_logger()


class CopyVanished(Unavailable):
    """The copy was deleted again and again while it was being made."""


class CacheUnusable(Unavailable):
    """The disk of the cache refuses; the message says why."""


class CopyWasDamaged(Unavailable):
    """What failed was due to damage on this node's disk, which is mended by now."""

    def __init__(self) -> None:
        super().__init__("this node's copy of the repository was damaged and has been replaced: try again")


class StoredPackMissing(Unavailable):
    """The object store has lost a pack; the message names it."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A pinned copy: complete at `version`, and readable until it is unpinned."""

    place: GitPlace
    version: int
    manifest_version: int
    packs: tuple[Pack, ...]
    stamp: int = 0
    """Of the last mending before it was pinned."""

    @property
    def objects(self) -> Path:
        return self.place.git_dir / "objects"


class Copies:
    """Copies of repositories on this node."""

    def __init__(
        self, settings: CacheSettings, *, ledger: Ledger, objects: ObjectStore, clock: Clock
    ) -> None:
        self._directory = settings.directory
        self._root = settings.directory / "copies"
        self._trash = settings.directory / "trash"
        self._size_bytes_max = settings.size_gib_max << 30
        self._ledger = ledger
        self._clock = clock
        self.packs = PackStore(settings.directory / "packs", objects)
        self.mender = Mender(self.packs, clock)

    @contextmanager
    def pinned(self, repository_id: int) -> Iterator[Copy]:
        """A copy no older than this call. Its files stay until the block ends.

        Raises `NoSuchRepository`, and `Unavailable` when a pack is not here and cannot be fetched. When git
        fails in the block because the copy is damaged, the copy is mended and `CopyWasDamaged` raised.
        """
        try:
            copy, pin = self._bring_up_with_room(repository_id)
        except OSError as refused:
            raise CacheUnusable(f"cannot use the local cache: {refused.strerror}") from refused
        try:
            yield copy
        except GitFailed as failed:
            if self.was_damaged(copy):
                raise CopyWasDamaged from failed
            raise
        finally:
            os.close(pin)

    def was_damaged(self, copy: Copy) -> bool:
        """Look through the copy for damage, and mend it: for who saw git fail in it, while it is pinned.

        False, too, when it was looked at a short while ago. Blocks. Raises `Unavailable` when something is
        damaged and cannot be replaced now.
        """
        try:
            return self.mender.look_through(copy.place.git_dir, copy.packs, stamp=copy.stamp)
        except NoSuchObject as lost:
            raise StoredPackMissing(f"{lost}: run `mainstay fsck`") from lost
        except OSError as refused:
            raise CacheUnusable(f"cannot use the local cache: {refused.strerror}") from refused

    def stamp(self, uid: str) -> int:
        """Another number after each mending of the copies of this repository."""
        return stamp_of(self._root / uid / "any")

    def _bring_up_with_room(self, repository_id: int) -> tuple[Copy, int]:
        try:
            return self._bring_up(repository_id)
        except (OSError, Unavailable) as refused:
            if not is_full(refused):
                raise
            packs = self._ledger.packs(repository_id)[2]
            if not self._make_room(2 * sum(pack.size_bytes for pack in packs) + _ROOM_BYTES):
                raise
        return self._bring_up(repository_id)

    def make_room_if_short(self) -> bool:
        """Delete from the cache when its disk is nearly full. Returns whether it was. Blocks."""
        try:
            short = short_bytes(self._directory)
        except OSError:
            return False
        if short:
            self._make_room(short)
        return bool(short)

    def _make_room(self, wanted_bytes: int) -> int:
        """Delete what was used longest ago and frees room. Returns the bytes freed."""
        by_last_use = self._by_last_use()
        census = _Census(self.packs.directory, by_last_use)
        freed = sum(map(_delete, census.unlinked))
        for directory in by_last_use:
            if freed >= wanted_bytes:
                break
            names = _pack_files(directory)
            if census.is_freed_by(directory) and self._drop(directory):
                self._forget_packs(names)
                freed += census.without(directory)
        if freed:
            log.warning("cache.made_room", bytes=freed)
        return freed

    def _bring_up(self, repository_id: int) -> tuple[Copy, int]:
        uid = self._ledger.repository(repository_id).uid
        lost: NoSuchObject | None = None
        for _ in range(_ATTEMPTS_MAX):
            version, manifest_version, packs = self._ledger.packs(repository_id)
            directory = self._root / uid / str(manifest_version)
            stamp = stamp_of(directory)
            try:
                pin = self._completed(directory, packs)
            except (FileNotFoundError, NoSuchObject) as gone:
                # The cache was deleted under our feet, or a compaction's inputs are gone: look again.
                lost = gone if isinstance(gone, NoSuchObject) else None
                continue
            place = GitPlace(git_dir=directory)
            return Copy(place, version, manifest_version, tuple(packs), stamp), pin
        if lost is not None:
            raise StoredPackMissing(f"{lost}: run `mainstay fsck`") from lost
        raise CopyVanished(f"the copy of repository {uid} vanished {_ATTEMPTS_MAX} times while being made")

    def _completed(self, directory: Path, packs: list[Pack]) -> int:
        """Pin the copy and give it what it lacks; return the pin. When that fails, nothing stays pinned."""
        pin = self._pin(directory)
        try:
            if not _link_packs(directory, packs, self.packs):
                self.mender.mend(directory, tuple(packs))
            self._drop_superseded(directory)
        except BaseException:
            os.close(pin)
            raise
        return pin

    def _pin(self, directory: Path) -> int:
        for _ in range(_ATTEMPTS_MAX):
            pin = shared(directory / "pin")
            if pin is not None:
                self._touch(pin)
                return pin
            self._create(directory)
        raise CopyVanished(f"the copy {directory.name} vanished {_ATTEMPTS_MAX} times while being pinned")

    def _create(self, directory: Path) -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(directory.parent / "lock"):
            if (directory / "pin").exists():
                return
            fresh = directory.parent / f"new-{new_ulid()}"
            _make_bare(fresh)
            self._discard(directory)
            fresh.rename(directory)

    def _touch(self, pin: int) -> None:
        now_s = self._clock.now_ms() / 1000
        if now_s - os.fstat(pin).st_mtime > _TOUCH_EVERY_S:
            os.utime(pin, (now_s, now_s))

    def _discard(self, directory: Path) -> None:
        """Take a directory away at once, then delete it at leisure."""
        self._trash.mkdir(parents=True, exist_ok=True)
        grave = self._trash / new_ulid()
        try:
            directory.rename(grave)
        except FileNotFoundError:
            return
        shutil.rmtree(grave, ignore_errors=True)

    def _drop_superseded(self, newest: Path) -> None:
        """Delete the older copies of the same repository that nobody reads, and the packs only they had."""
        for directory in newest.parent.iterdir():
            if directory.name.isdigit() and int(directory.name) < int(newest.name):
                names = _pack_files(directory) - _pack_files(newest)
                if self._drop(directory):
                    self._forget_packs(names)

    def _drop(self, directory: Path) -> bool:
        lock = try_exclusive(directory / "pin")
        if lock is None:
            return False
        try:
            self._discard(directory)
        finally:
            os.close(lock)
        return True

    def evict(self) -> int:
        """Delete what was used longest ago until the cache fits its size. Returns the bytes freed.

        Files that no copy links go first: a push leaves its pack for the next reader, who may never come.
        Copies in use stay. A pack file goes when no copy links it any more.
        """
        by_last_use = self._by_last_use()
        census = _Census(self.packs.directory, by_last_use)
        excess = census.size_bytes - self._size_bytes_max
        freed = sum(map(_delete, census.unlinked)) if excess > 0 else 0
        for directory in by_last_use:
            if freed >= excess:
                break
            names = _pack_files(directory)
            if self._drop(directory):
                self._forget_packs(names)
                freed += census.without(directory)
        for grave in self._trash.glob("*"):
            shutil.rmtree(grave, ignore_errors=True)
        self.make_room_if_short()
        return freed

    def _by_last_use(self) -> list[Path]:
        pins = [(used_s, pin.parent) for pin in self._root.glob("*/*/pin") if (used_s := _used_s(pin))]
        return [directory for _, directory in sorted(pins)]

    def _forget_packs(self, names: set[str]) -> None:
        """Remove from the pack store what the dropped copy linked. A copy elsewhere keeps its own link."""
        for name in names:
            (self.packs.directory / name.removeprefix("pack-")).unlink(missing_ok=True)


def _make_bare(directory: Path) -> None:
    """The least that git accepts as a repository. The pin comes last: it says that the rest is there."""
    (directory / "objects" / "pack").mkdir(parents=True)
    (directory / "objects" / "info").mkdir()
    (directory / "refs").mkdir()
    (directory / "HEAD").write_text("ref: refs/heads/main\n")
    (directory / "config").write_text(_CONFIG)
    (directory / "pin").touch()


def _link_packs(directory: Path, packs: list[Pack], store: PackStore) -> bool:
    """Make every file of every pack present in the copy. One listing decides what is missing.

    Returns whether the files that were there have plausible sizes: a power cut may leave names without bytes.
    """
    pack_directory = directory / "objects" / "pack"
    with os.scandir(pack_directory) as entries:
        size_of = {entry.name: entry.stat().st_size for entry in entries}
    plausible = all(size_of.values())
    for pack in packs:
        endings = [ending for ending in files_of(pack) if _is_linked(ending)]
        missing = [ending for ending in endings if f"pack-{pack.id}.{ending}" not in size_of]
        if missing:
            for ending in store.ensure(pack, missing):
                _link(store.path(pack.id, ending), pack_directory / f"pack-{pack.id}.{ending}")
        plausible &= size_of.get(f"pack-{pack.id}.pack", pack.size_bytes) == pack.size_bytes
    _link_graph(directory, packs, store)
    return plausible


def _is_linked(ending: str) -> bool:
    return ending != "graph"


def _link_graph(directory: Path, packs: list[Pack], store: PackStore) -> None:
    """The newest commit-graph serves; it may lack newer commits, which git then reads from packs."""
    target = directory / "objects" / "info" / "commit-graph"
    for pack in reversed(packs):
        if "graph" in pack.artefacts:
            if not target.exists() and store.ensure(pack, ["graph"]):
                _link(store.path(pack.id, "graph"), target)
            return


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        return


def _pack_files(directory: Path) -> set[str]:
    try:
        return {entry.name for entry in (directory / "objects" / "pack").iterdir()}
    except FileNotFoundError:
        return set()


class _Census:
    """Which files the cache has, each counted once however many copies link it."""

    def __init__(self, store: Path, copies: Sequence[Path]) -> None:
        stored = _files(store)
        self._stored = {facts.st_ino for facts in stored.values()}
        self._of_copy = {copy: _files(copy / "objects" / "pack") for copy in copies}
        linked = [facts for files in self._of_copy.values() for facts in files.values()]
        self._links = Counter(facts.st_ino for facts in linked)
        self.unlinked = [path for path, facts in stored.items() if facts.st_ino not in self._links]
        sizes = {facts.st_ino: facts.st_size for facts in [*stored.values(), *linked]}
        self.size_bytes = sum(sizes.values())

    def is_freed_by(self, copy: Path) -> bool:
        """Whether anything would be: not what other copies have, or an object store on the same disk."""
        files = self._of_copy[copy].values()
        return any(facts.st_nlink == 1 + (facts.st_ino in self._stored) for facts in files)

    def without(self, copy: Path) -> int:
        """Count a copy as gone; return the bytes that nobody links any more."""
        files = self._of_copy.pop(copy).values()
        self._links.subtract(facts.st_ino for facts in files)
        return sum(facts.st_size for facts in files if not self._links[facts.st_ino])


def _files(directory: Path) -> dict[Path, os.stat_result]:
    """The files of a directory; what vanishes meanwhile is left out."""
    found = {}
    with suppress(FileNotFoundError):
        for path in directory.iterdir():
            with suppress(FileNotFoundError):
                found[path] = path.stat()
    return found


def _delete(path: Path) -> int:
    """Delete a file and return its size, or nothing if it has gone already."""
    try:
        size_bytes = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size_bytes


def _used_s(pin: Path) -> float | None:
    try:
        return pin.stat().st_mtime
    except FileNotFoundError:
        return None
