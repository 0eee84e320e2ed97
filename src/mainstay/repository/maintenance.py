"""Keep a repository quick to clone: few packs, a bitmap, a commit-graph.

Small packs are merged in a geometric progression; when enough has gathered beside the base pack, a new base
is made, with a reachability bitmap and a commit-graph. Every result holds exactly the objects of its inputs,
unreachable ones too, which is checked before it is swapped in. Work happens in a scratch directory; nothing
that serves is ever touched, and no push or fetch waits for it.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from mainstay.cache.copies import Copies, Copy
from mainstay.foundation.ids import new_ulid
from mainstay.git.native.place import Limits
from mainstay.git.native.run import run
from mainstay.git.objectnames import Oid
from mainstay.git.packs import PackIndex
from mainstay.repository.scratch import repository_of
from mainstay.storage.ledger import Ledger, Pack, PackKind, PacksMoved, Ref, Repository
from mainstay.storage.swap import swap
from mainstay.storage.upload import PackFiles, Uploads, finished_pack

_LIMITS = Limits(data_bytes_max=None, wall_s_max=4 * 3600)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceSettings:
    """When a repository is compacted."""

    scratch: Path
    """Where new packs are made; wiped when the node starts."""
    small_packs_max: int = 20
    """This many unsealed packs beside the base are merged."""
    base_objects_min: int = 1_000
    """Smaller repositories need no base pack: without a bitmap they clone in no time."""
    beside_base_percent_max: int = 25
    """When more than this share of the objects is outside the base, a new base is made."""
    sealed_mib: int = 512
    """A merged pack of this size is left alone until the next base."""


@dataclass(frozen=True, slots=True)
class Leave:
    because: str


@dataclass(frozen=True, slots=True)
class Merge:
    packs: tuple[Pack, ...]
    because: str


@dataclass(frozen=True, slots=True)
class Rebase:
    because: str


def decide(packs: Sequence[Pack], settings: MaintenanceSettings) -> Leave | Merge | Rebase:
    """Say what the manifest needs. Reads nothing but its arguments."""
    in_base = sum(pack.objects for pack in packs if pack.kind == "base")
    beside = sum(pack.objects for pack in packs if pack.kind != "base")
    if in_base == 0 and beside >= settings.base_objects_min:
        return Rebase(f"{beside} objects and no base pack")
    if in_base and beside * 100 > in_base * settings.beside_base_percent_max:
        return Rebase(f"{beside} objects beside a base of {in_base}")
    small = [pack for pack in packs if pack.kind != "base" and not pack.sealed]
    if len(small) > settings.small_packs_max:
        return Merge(tuple(smallest_run(small)), f"{len(small)} small packs")
    return Leave(f"{len(small)} small packs, {beside} objects beside a base of {in_base}")


def smallest_run(packs: Sequence[Pack]) -> list[Pack]:
    """The small packs to merge: all up to the first that is larger than twice their sum.

    So each object is rewritten a logarithmic number of times, and what is left grows geometrically.
    """
    run_of: list[Pack] = []
    total = 0
    for pack in sorted(packs, key=lambda pack: pack.size_bytes):
        if len(run_of) > len(packs) // 2 and pack.size_bytes > 2 * total:
            break
        run_of.append(pack)
        total += pack.size_bytes
    return run_of


class Maintenance:
    """Compacts repositories, one bounded piece of work at a time."""

    def __init__(
        self, *, ledger: Ledger, copies: Copies, uploads: Uploads, settings: MaintenanceSettings
    ) -> None:
        self._ledger = ledger
        self._copies = copies
        self._uploads = uploads
        self._settings = settings

    def maintain(self, repository_id: int) -> str:
        """Do what `decide` says, once; return the sentence that says what was done and why. Blocks."""
        repository = self._ledger.repository(repository_id)
        _, refs = self._ledger.refs(repository_id)
        with self._copies.pinned(repository_id) as copy, self._scratch() as scratch:
            decision = decide(copy.packs, self._settings)
            if isinstance(decision, Leave):
                return f"left alone: {decision.because}"
            try:
                if isinstance(decision, Merge):
                    made = self._merge(repository, copy, decision.packs, scratch)
                else:
                    made = self._rebase(repository, copy, refs, scratch)
            except PacksMoved as moved:
                return f"given up: {moved}"
        log.info("maintenance.compacted", repository=repository.uid, because=decision.because, pack=made)
        return f"{'merged' if isinstance(decision, Merge) else 'rebased'}: {decision.because}"

    def _merge(self, repository: Repository, copy: Copy, packs: Sequence[Pack], scratch: Path) -> str:
        names = "".join(f"pack-{pack.id}.pack\n" for pack in packs).encode()
        base = ["pack-objects", "--stdin-packs", "--delta-base-offset", "--quiet", "--non-empty"]
        run(copy.place, [*base, str(scratch / "pack")], stdin=names, limits=_LIMITS, config=_PACKING)
        return self._swap_in(repository, copy, packs, scratch, kind="compact")

    def _rebase(self, repository: Repository, copy: Copy, refs: Sequence[Ref], scratch: Path) -> str:
        """A base pack of everything. The refs are older than the copy, so all of them have their objects."""
        place = repository_of(copy, refs, scratch / "repository")
        arguments = [
            "pack-objects", "--all", "--keep-unreachable", "--delta-base-offset", "--quiet", "--non-empty",
            "--write-bitmap-index",
        ]  # fmt: skip
        run(place, [*arguments, str(scratch / "pack")], limits=_LIMITS, config=_PACKING)
        graph = ["commit-graph", "write", "--reachable", "--changed-paths", "--no-progress"]
        run(place, graph, limits=_LIMITS, config=_PACKING)
        return self._swap_in(repository, copy, copy.packs, scratch, kind="base")

    def _swap_in(
        self, repository: Repository, copy: Copy, inputs: Sequence[Pack], scratch: Path, *, kind: PackKind
    ) -> str:
        made = _finished(repository, scratch, kind=kind, sealed_bytes=self._settings.sealed_mib << 20)
        _check_same_objects(copy, inputs, made)
        self._copies.packs.adopt(made.pack.id, made.files)
        swap(
            repository,
            remove=[pack.id for pack in inputs],
            add=made,
            ledger=self._ledger,
            uploads=self._uploads,
        )
        return made.pack.id

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        directory = self._settings.scratch / new_ulid()
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


_PACKING = {
    "pack.writeReverseIndex": "true",
    "pack.writeBitmapHashCache": "true",
    "commitGraph.generationVersion": "1",  # libgit2 silently ignores a graph of version 2
    "core.bigFileThreshold": "32m",
}


def _finished(repository: Repository, scratch: Path, *, kind: PackKind, sealed_bytes: int) -> PackFiles:
    """Describe the pack that git left in `scratch`."""
    (path,) = scratch.glob("pack-*.pack")
    files = {
        ending: path.with_suffix(f".{ending}")
        for ending in ("pack", "idx", "rev", "bitmap")
        if path.with_suffix(f".{ending}").exists()
    }
    graph = scratch / "repository" / "objects" / "info" / "commit-graph"
    if graph.exists():
        files["graph"] = graph
    return finished_pack(
        repository,
        files,
        objects=len(_object_names(files["idx"])),
        kind=kind,
        sealed_bytes=0 if kind == "base" else sealed_bytes,
    )


def _check_same_objects(copy: Copy, inputs: Sequence[Pack], made: PackFiles) -> None:
    """The heart of safety: what goes in comes out. A difference is a bug, and nothing is swapped."""
    wanted: set[Oid] = set()
    for pack in inputs:
        wanted |= _object_names(copy.objects / "pack" / f"pack-{pack.id}.idx")
    found = _object_names(made.files["idx"])
    if wanted != found:
        missing, extra = len(wanted - found), len(found - wanted)
        raise AssertionError(f"compaction would lose {missing} objects and add {extra}: not swapped")


def _object_names(idx: Path) -> set[Oid]:
    return set(PackIndex(idx.read_bytes()).oids())
