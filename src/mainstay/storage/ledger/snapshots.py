"""A whole repository out of the tables, and back into them."""

from collections.abc import Sequence

from mainstay.foundation.errors import Conflict
from mainstay.storage.database import Transaction, expect_long_rests
from mainstay.storage.ledger import Change, Repository, Snapshot, log, manifest, refs
from mainstay.storage.ledger.chain import compact
from mainstay.storage.ledger.repositories import Row, find, find_any


class RepositoryThere(Conflict):
    """A repository of this id or uid exists already."""


def snapshot(tx: Transaction, repository_id: int) -> Snapshot:
    """Raises `NoSuchRepository`."""
    return _whole(tx, find(tx, repository_id))


def snapshot_of_any(tx: Transaction, repository_id: int) -> Snapshot | None:
    """Also of a deleted repository; None when there never was one."""
    row = find_any(tx, repository_id)
    return None if row is None else _whole(tx, row)


def _whole(tx: Transaction, row: Row) -> Snapshot:
    repository_id = row.repository.id
    packs = manifest.everything(tx, repository_id)
    return Snapshot(row.repository, refs.everything(tx, repository_id), packs, row.hash)


def restore(tx: Transaction, snapshot: Snapshot, changes: Sequence[Change]) -> None:
    """Write a repository back under its own id. Packs that a relative brought back already are shared."""
    repository = snapshot.repository
    expect_long_rests(tx)
    _refuse_taken(tx, repository)
    _insert(tx, repository, snapshot.hash)
    refs.insert(tx, repository.id, snapshot.refs)
    manifest.insert(tx, snapshot.packs, or_revive=True)
    manifest.name(tx, repository.id, snapshot.packs)
    log.insert(tx, changes, journaled=True)
    if tx.dialect == "postgresql":
        # Rows that bring their own id leave the sequence behind; SQLite looks at the rows itself.
        tx.rows(
            "SELECT setval(pg_get_serial_sequence('ledger_repository', 'id'), max(id)) FROM ledger_repository"
        )


def _refuse_taken(tx: Transaction, repository: Repository) -> None:
    taken = tx.row(
        "SELECT id, uid FROM ledger_repository WHERE id = ? OR uid = ?", (repository.id, repository.uid)
    )
    if taken is not None:
        raise RepositoryThere(f"repository {taken[0]} ({taken[1]}) is there already")


def _insert(tx: Transaction, repository: Repository, chain_hash: str) -> None:
    tx.execute(
        "INSERT INTO ledger_repository (id, uid, network_id, object_format, head, version, manifest_version,"
        " prune_epoch, write_state, identity, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            repository.id,
            repository.uid,
            repository.network_id,
            repository.object_format,
            repository.head,
            repository.version,
            repository.manifest_version,
            repository.prune_epoch,
            repository.write_state,
            compact(repository.identity),
            chain_hash,
        ),
    )
