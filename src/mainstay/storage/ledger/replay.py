"""The state of a repository as the sum of its log: for `rebuild-db`, and to check the tables.

`Replay(start)` continues a checkpoint, `Replay()` begins with the first change. Both refuse a gap, a
wrong hash and a change that does not fit the state before it.
"""

from collections.abc import Iterable
from dataclasses import replace

from mainstay.foundation.errors import Conflict
from mainstay.git.objectnames import ZERO_OID, Oid, shown
from mainstay.storage.ledger import Change, Pack, Ref, RefChange, Repository, Snapshot
from mainstay.storage.ledger.chain import FIRST, hash_of


class BrokenLog(Conflict):
    """A change does not continue the ones before it; the message says which and why."""


def replay(changes: Iterable[Change], start: Snapshot | None = None) -> Snapshot:
    """The state after `changes`, which continue `start` or begin with the repository's first change."""
    state = Replay(start)
    for change in changes:
        state.apply(change)
    return state.snapshot()


class Replay:
    """A state that changes are applied to, in order."""

    def __init__(self, start: Snapshot | None = None) -> None:
        self._repository = None if start is None else start.repository
        self._hash = FIRST if start is None else start.hash
        self._refs = {} if start is None else {ref.name: ref for ref in start.refs}
        self._packs = {} if start is None else {pack.id: pack for pack in start.packs}

    def snapshot(self) -> Snapshot:
        if self._repository is None:
            raise BrokenLog("there is no change to begin with")
        packs = sorted(self._packs.values(), key=lambda pack: (pack.added_version, pack.id))
        refs = sorted(self._refs.values(), key=lambda ref: ref.name)
        return Snapshot(self._repository, refs, packs, self._hash)

    def apply(self, change: Change) -> None:
        repository = self._continued_by(change)
        for ref in change.refs:
            self._move(ref, change.version)
        for pack_id in change.packs_removed:
            self._remove(pack_id, change.version)
        self._packs |= {pack.id: pack for pack in change.packs_added}
        if change.kind == "delete":
            self._refs.clear()
        self._repository = _after(repository, change)
        self._hash = change.hash

    def _continued_by(self, change: Change) -> Repository:
        version = 0 if self._repository is None else self._repository.version
        if change.version != version + 1:
            raise BrokenLog(f"version {change.version} follows version {version}")
        if change.previous_hash != self._hash:
            raise BrokenLog(f"version {change.version}: the hash of the change before it is another")
        if hash_of(change) != change.hash:
            raise BrokenLog(f"version {change.version}: its content does not give its hash")
        return self._repository or _born(change)

    def _move(self, ref: RefChange, version: int) -> None:
        found = self._refs[ref.name].oid if ref.name in self._refs else ZERO_OID
        if found != ref.old:
            raise BrokenLog(_unlike(version, ref, found))
        if ref.new == ZERO_OID:
            del self._refs[ref.name]
        else:
            self._refs[ref.name] = Ref(ref.name, ref.new, ref.peeled)

    def _remove(self, pack_id: str, version: int) -> None:
        if self._packs.pop(pack_id, None) is None:
            raise BrokenLog(f"version {version} takes out pack {pack_id}, which is not there")


def _unlike(version: int, ref: RefChange, found: Oid) -> str:
    return f"version {version} moves {shown(ref.name)} from {ref.old}, but it is {found}"


def _born(change: Change) -> Repository:
    """The repository before its first change."""
    if change.head is None or change.identity is None:
        raise BrokenLog(f"version {change.version} of kind {change.kind!r} cannot be the first")
    return Repository(
        id=change.repository_id,
        uid=change.uid,
        network_id=change.details["network_id"],
        object_format=change.details["object_format"],
        head=change.head,
        version=0,
        manifest_version=0,
        prune_epoch=0,
        write_state="writable",
        identity=change.identity,
    )


def _after(repository: Repository, change: Change) -> Repository:
    return replace(
        repository,
        version=change.version,
        head=repository.head if change.head is None else change.head,
        identity=repository.identity if change.identity is None else change.identity,
        manifest_version=change.version if _takes_out(change) else repository.manifest_version,
        write_state=change.details["state"] if change.kind in {"state", "delete"} else repository.write_state,
    )


def _takes_out(change: Change) -> bool:
    return change.kind == "delete" or bool(change.packs_removed)


def added_packs(changes: Iterable[Change]) -> list[Pack]:
    """Every pack that these changes ever named, in its latest form: candidates of a rebuild."""
    return list({pack.id: pack for change in changes for pack in change.packs_added}.values())
