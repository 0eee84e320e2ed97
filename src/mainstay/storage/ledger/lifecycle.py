"""What happens to a repository besides pushes: birth, fork, head, identity, write state, swaps of packs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mainstay.git.objectnames import ZERO_OID, RefName
from mainstay.storage.database import Transaction
from mainstay.storage.ledger import Pack, RefChange, Repository, WriteState, log, manifest, refs, uploads
from mainstay.storage.ledger.repositories import insert, lock, lock_writable


def create(
    tx: Transaction, *, uid: str, head: RefName, identity: Mapping[str, Any], actor: str, at_ms: int
) -> Repository:
    row = insert(tx, uid=uid, head=head, identity=identity)
    return log.append(
        tx,
        row,
        kind="create",
        actor=actor,
        at_ms=at_ms,
        head=head,
        identity=identity,
        details=_birth(row.repository),
    )


def _birth(repository: Repository) -> dict[str, Any]:
    """What a replay of the log needs to know and no other field of a change says."""
    return {"object_format": repository.object_format, "network_id": repository.network_id}


def fork(
    tx: Transaction,
    source_id: int,
    *,
    uid: str,
    identity: Mapping[str, Any],
    actor: str,
    hide: Sequence[bytes],
    at_ms: int,
) -> Repository:
    """The source stays locked until the end, so that none of its packs is doomed under our hands."""
    source = lock(tx, source_id).repository
    row = insert(
        tx,
        uid=uid,
        head=source.head,
        identity=identity,
        object_format=source.object_format,
        network_id=source.network_id,
    )
    copied = [ref for ref in refs.everything(tx, source_id) if not ref.name.startswith(tuple(hide))]
    packs = [replace(pack, added_version=1) for pack in manifest.everything(tx, source_id)]
    refs.insert(tx, row.repository.id, copied)
    manifest.name(tx, row.repository.id, packs)
    return log.append(
        tx,
        row,
        kind="fork",
        actor=actor,
        at_ms=at_ms,
        refs=[RefChange(ref.name, ZERO_OID, ref.oid, ref.peeled) for ref in copied],
        packs_added=packs,
        head=source.head,
        identity=identity,
        details={**_birth(row.repository), "source": source.uid, "source_version": source.version},
    )


def set_head(tx: Transaction, repository_id: int, head: RefName, *, actor: str, at_ms: int) -> int:
    row = lock_writable(tx, repository_id)
    if row.repository.head == head:
        return row.repository.version
    after = replace(row.repository, head=head)
    return log.append(tx, row, kind="head", actor=actor, at_ms=at_ms, after=after, head=head).version


def set_identity(
    tx: Transaction, repository_id: int, identity: Mapping[str, Any], *, actor: str, at_ms: int
) -> int:
    """Allowed while read-only: a project may be renamed then."""
    row = lock(tx, repository_id)
    if row.repository.identity == identity:
        return row.repository.version
    after = replace(row.repository, identity=identity)
    return log.append(
        tx, row, kind="identity", actor=actor, at_ms=at_ms, after=after, identity=identity
    ).version


def set_write_state(tx: Transaction, repository_id: int, state: WriteState, *, actor: str, at_ms: int) -> int:
    row = lock(tx, repository_id)
    if state == "deleted":
        return _delete(tx, repository_id, actor=actor, at_ms=at_ms)
    if row.repository.write_state == state:
        return row.repository.version
    after = replace(row.repository, write_state=state)
    return log.append(
        tx, row, kind="state", actor=actor, at_ms=at_ms, after=after, details={"state": state}
    ).version


def _delete(tx: Transaction, repository_id: int, *, actor: str, at_ms: int) -> int:
    """Let go of refs and packs. The row and the log stay: its uid and its id are never given out again."""
    row = lock(tx, repository_id)
    version = row.repository.version + 1
    gone = [pack.id for pack in manifest.everything(tx, repository_id)]
    manifest.remove(tx, repository_id, gone, at_ms)
    refs.delete_all(tx, repository_id)
    after = replace(row.repository, write_state="deleted", manifest_version=version)
    return log.append(
        tx,
        row,
        kind="delete",
        actor=actor,
        at_ms=at_ms,
        after=after,
        packs_removed=gone,
        details={"state": "deleted"},
    ).version


def swap_packs(
    tx: Transaction,
    repository_id: int,
    *,
    take_out: Sequence[str],
    put_in: Sequence[Pack],
    intents: Sequence[str],
    actor: str,
    at_ms: int,
) -> int:
    row = lock_writable(tx, repository_id)
    version = row.repository.version + 1
    uploads.consume(tx, repository_id, intents)
    manifest.remove(tx, repository_id, take_out, at_ms)
    added = manifest.add(tx, repository_id, put_in, version)
    after = replace(row.repository, manifest_version=version) if take_out else row.repository
    return log.append(
        tx,
        row,
        kind="swap",
        actor=actor,
        at_ms=at_ms,
        after=after,
        packs_added=added,
        packs_removed=list(take_out),
    ).version


def add_artefacts(
    tx: Transaction,
    repository_id: int,
    pack_id: str,
    artefacts: Sequence[str],
    *,
    intents: Sequence[str],
    actor: str,
    at_ms: int,
) -> int:
    """The change names the pack as it is afterwards: a replay puts it in the place of the old one."""
    row = lock_writable(tx, repository_id)
    manifest.lock(tx, [pack_id])
    pack = manifest.one(tx, repository_id, pack_id)
    uploads.consume(tx, repository_id, intents)
    pack = replace(pack, artefacts=tuple(sorted({*pack.artefacts, *artefacts})))
    manifest.set_artefacts(tx, pack)
    return log.append(tx, row, kind="artefacts", actor=actor, at_ms=at_ms, packs_added=[pack]).version
