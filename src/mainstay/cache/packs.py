"""The node's store of pack files: each pack once, however many copies link it.

A file appears whole and sound, or not at all: what comes from the object store is compared with the ledger
before anybody sees it. Two processes that want the same pack fetch it once.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from mainstay.cache.locks import exclusive
from mainstay.cache.proof import NEEDED, is_sound
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage.ledger import Pack
from mainstay.storage.objects import NoSuchObject, ObjectStore

log = structlog.get_logger()


class StoredPackDamaged(Unavailable):
    """The object store has other bytes than those that were stored; the message names the object."""


def files_of(pack: Pack) -> tuple[str, ...]:
    """The endings of a pack's files, in the order in which Git may see them: the idx makes it visible."""
    side_files = (artefact for artefact in pack.artefacts if artefact != "idx")
    return (*side_files, "pack", "idx")


class PackStore:
    """`DIRECTORY/<pack id>.<ending>` for each file of each pack this node has needed lately."""

    def __init__(self, directory: Path, objects: ObjectStore) -> None:
        self.directory = directory
        self._objects = objects

    def path(self, pack_id: str, ending: str) -> Path:
        return self.directory / f"{pack_id}.{ending}"

    def ensure(self, pack: Pack, endings: Iterable[str]) -> list[str]:
        """Bring the named files of `pack` here; return those that are here now.

        A side-file that git can do without is left out when the object store has lost it. Raises
        `Unavailable` when the object store is away, `NoSuchObject`, and `StoredPackDamaged`.
        """
        wanted = list(endings)
        missing = [ending for ending in wanted if not self.path(pack.id, ending).exists()]
        if not missing:
            return wanted
        with exclusive(self.directory / f"{pack.id}.lock"):
            lost = {ending for ending in missing if not self._fetch(pack, ending)}
        self.directory.joinpath(f"{pack.id}.lock").unlink(missing_ok=True)
        return [ending for ending in wanted if ending not in lost]

    def adopt(self, pack_id: str, files: Mapping[str, Path]) -> None:
        """Take files that this node has just made for a pack, instead of fetching them later."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for ending, source in files.items():
            try:
                os.link(source, self.path(pack_id, ending))
            except FileExistsError:
                continue

    def forget(self, pack_id: str, ending: str) -> None:
        """What links the file elsewhere keeps it."""
        self.path(pack_id, ending).unlink(missing_ok=True)

    def _fetch(self, pack: Pack, ending: str) -> bool:
        """Whether the file is here now."""
        target = self.path(pack.id, ending)
        if target.exists():
            return True
        try:
            self._fetch_sound(pack, ending, target)
        except (NoSuchObject, StoredPackDamaged) as lost:
            if ending in NEEDED:
                raise
            log.warning("cache.side_file_lost", pack=pack.id, ending=ending, because=str(lost))
            return False
        return True

    def _fetch_sound(self, pack: Pack, ending: str, target: Path) -> None:
        key = f"{pack.key}.{ending}"
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f"new-{new_ulid()}")
        try:
            self._objects.fetch(key, fresh)
            if not is_sound(fresh, ending, pack):
                raise StoredPackDamaged(f"{key} is damaged in the object store: run `mainstay fsck`")
            fresh.rename(target)
        finally:
            fresh.unlink(missing_ok=True)
