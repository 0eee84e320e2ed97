"""The node's store of pack files: each pack once, however many copies link it.

A file appears whole or not at all. Two processes that want the same pack fetch it once.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from mainstay.cache.locks import exclusive
from mainstay.storage.ledger import Pack
from mainstay.storage.objects import ObjectStore


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

    def ensure(self, pack: Pack, endings: Iterable[str]) -> None:
        """Bring the named files of `pack` here. Raises `Unavailable` when the object store is away."""
        missing = [ending for ending in endings if not self.path(pack.id, ending).exists()]
        if not missing:
            return
        with exclusive(self.directory / f"{pack.id}.lock"):
            for ending in missing:
                self._fetch(pack, ending)
        self.directory.joinpath(f"{pack.id}.lock").unlink(missing_ok=True)

    def adopt(self, pack_id: str, files: Mapping[str, Path]) -> None:
        """Take files that this node has just made for a pack, instead of fetching them later."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for ending, source in files.items():
            try:
                os.link(source, self.path(pack_id, ending))
            except FileExistsError:
                continue

    def _fetch(self, pack: Pack, ending: str) -> None:
        target = self.path(pack.id, ending)
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        self._objects.fetch(f"{pack.key}.{ending}", target)
