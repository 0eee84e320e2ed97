"""Rows of repositories: reading them, and locking one for a change.

Whoever changes a repository begins with `lock`, an UPDATE of its row: on PostgreSQL the next writer waits
there until the transaction ends, and then sees what it did.
"""
# ruff: noqa: S608 - only column lists, marks and clauses of our own are put into SQL

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mainstay.git.objectnames import RefName
from mainstay.storage.database import Transaction
from mainstay.storage.ledger import NoSuchRepository, NotWritable, Repository
from mainstay.storage.ledger.chain import FIRST, compact

_COLUMNS = (
    "id, uid, network_id, object_format, head, version, manifest_version, prune_epoch, write_state,"
    " identity, hash"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A repository and the hash of its last change."""

    repository: Repository
    hash: str


def _row(values: tuple[Any, ...]) -> Row:
    repository = Repository(
        id=values[0],
        uid=values[1],
        network_id=values[2],
        object_format=values[3],
        head=RefName(values[4]),
        version=values[5],
        manifest_version=values[6],
        prune_epoch=values[7],
        write_state=values[8],
        identity=json.loads(values[9]),
    )
    return Row(repository, values[10])


def find(tx: Transaction, repository_id: int) -> Row:
    """The row of a repository that is not deleted, or `NoSuchRepository`."""
    values = tx.row(f"SELECT {_COLUMNS} FROM ledger_repository WHERE id = ?", (repository_id,))
    return _live(values, repository_id)


def find_any(tx: Transaction, repository_id: int) -> Row | None:
    """The row of a repository, deleted or not."""
    values = tx.row(f"SELECT {_COLUMNS} FROM ledger_repository WHERE id = ?", (repository_id,))
    return None if values is None else _row(values)


def lock(tx: Transaction, repository_id: int) -> Row:
    """`find`, and hold the row against other writers until the transaction ends."""
    values = tx.row(
        f"UPDATE ledger_repository SET version = version WHERE id = ? RETURNING {_COLUMNS}", (repository_id,)
    )
    return _live(values, repository_id)


def lock_writable(tx: Transaction, repository_id: int) -> Row:
    """`lock`, or `NotWritable`."""
    row = lock(tx, repository_id)
    if row.repository.write_state != "writable":
        raise NotWritable(f"repository {repository_id} is read-only at the moment")
    return row


def _live(values: tuple[Any, ...] | None, repository_id: int) -> Row:
    row = None if values is None else _row(values)
    if row is None or row.repository.write_state == "deleted":
        raise NoSuchRepository(f"there is no repository {repository_id}")
    return row


def version_of(tx: Transaction, repository_id: int) -> int:
    """The version of a live repository, and nothing else: the most frequent question of all."""
    found = tx.row("SELECT version, write_state FROM ledger_repository WHERE id = ?", (repository_id,))
    if found is None or found[1] == "deleted":
        raise NoSuchRepository(f"there is no repository {repository_id}")
    return int(found[0])


def live_after(tx: Transaction, after_id: int, limit: int) -> list[Repository]:
    found = tx.rows(
        f"SELECT {_COLUMNS} FROM ledger_repository WHERE id > ? AND write_state <> 'deleted'"
        " ORDER BY id LIMIT ?",
        (after_id, limit),
    )
    return [_row(values).repository for values in found]


def versions_of(tx: Transaction, repository_ids: Sequence[int]) -> dict[int, int]:
    """The versions of those that are there."""
    marks = ", ".join("?" * len(repository_ids))
    rows = tx.rows(
        f"SELECT id, version FROM ledger_repository WHERE id IN ({marks})",
        tuple(repository_ids),
    )
    return {int(id_): int(version) for id_, version in rows}


def insert(
    tx: Transaction,
    *,
    uid: str,
    head: RefName,
    identity: Mapping[str, Any],
    object_format: str = "sha1",
    network_id: int | None = None,
) -> Row:
    """A row at version 0, waiting for its first change. Its own network unless it is given one."""
    values = tx.row(
        "INSERT INTO ledger_repository (uid, network_id, object_format, head, version, manifest_version,"
        " prune_epoch, write_state, identity, hash) VALUES (?, ?, ?, ?, 0, 0, 0, 'writable', ?, ?)"
        f" RETURNING {_COLUMNS}",
        (uid, network_id or 0, object_format, head, compact(identity), FIRST),
    )
    assert values is not None, "INSERT … RETURNING gives the row"
    row = _row(values)
    if network_id is not None:
        return row
    tx.execute("UPDATE ledger_repository SET network_id = id WHERE id = ?", (row.repository.id,))
    return replace(row, repository=replace(row.repository, network_id=row.repository.id))


def write_back(tx: Transaction, repository: Repository, chain_hash: str) -> None:
    """Store everything about a locked repository that a change may have changed."""
    tx.execute(
        "UPDATE ledger_repository SET head = ?, version = ?, manifest_version = ?, prune_epoch = ?,"
        " write_state = ?, identity = ?, hash = ? WHERE id = ?",
        (
            repository.head,
            repository.version,
            repository.manifest_version,
            repository.prune_epoch,
            repository.write_state,
            compact(repository.identity),
            chain_hash,
            repository.id,
        ),
    )
