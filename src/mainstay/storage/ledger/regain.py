"""Bring back pushes that the journal has and this ledger lost, exactly as they were: for promotions only.

The replica of a database that follows without being waited for may be behind its own objects. A push whose
commit record has come over is put into the log again under its own version and hash; so the record in the
journal stays true, and a chain that was continued here already is left alone.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from mainstay.foundation.errors import Conflict
from mainstay.git.objectnames import ZERO_OID
from mainstay.storage.database import Database, Transaction
from mainstay.storage.ledger import Change, log, manifest, outbox, refs
from mainstay.storage.ledger.chain import hash_of
from mainstay.storage.ledger.repositories import Row, lock, write_back


class NotRegained(Conflict):
    """The change does not continue what is here, or is of a kind that is not brought back."""


def is_regainable(row_version: int, row_hash: str, change: Change) -> bool:
    """Whether `change` is the push that followed the version and hash that are here."""
    return (
        change.kind == "push"
        and not change.packs_removed
        and (change.version, change.previous_hash) == (row_version + 1, row_hash)
        and hash_of(change) == change.hash
    )


def regain(database: Database, repository_id: int, changes: Sequence[Change]) -> int:
    """Put these pushes, in order, behind what is here: all or none. The new version. Raises `NotRegained`."""
    with database.write() as tx:
        row = lock(tx, repository_id)
        for change in changes:
            row = _applied(tx, row, change)
        return row.repository.version


def hash_here(database: Database, repository_id: int) -> tuple[int, str]:
    """Version and hash of the last change; (0, "") when there is no such repository."""
    with database.read() as tx:
        found = tx.row("SELECT version, hash FROM ledger_repository WHERE id = ?", (repository_id,))
    return (int(found[0]), str(found[1])) if found else (0, "")


def _applied(tx: Transaction, row: Row, change: Change) -> Row:
    repository = row.repository
    if change.uid != repository.uid or not is_regainable(repository.version, row.hash, change):
        raise NotRegained(f"version {change.version} of {change.uid} does not continue what is here")
    present = refs.seen_by(tx, repository.id, change.refs)
    for move in change.refs:
        if present.get(move.name, ZERO_OID) != move.old:
            raise NotRegained(f"version {change.version} of {change.uid}: a ref is elsewhere")
    refs.apply(tx, repository.id, change.refs)
    manifest.add(tx, repository.id, change.packs_added, change.version)
    log.insert(tx, [change], journaled=True)
    after = replace(
        repository, version=change.version, head=repository.head if change.head is None else change.head
    )
    write_back(tx, after, change.hash)
    _forget_intents(tx, change)
    payload = {"repository_id": repository.id, "version": change.version, "push_id": change.push_id}
    outbox.add(tx, "push", payload, change.at_ms)
    return Row(after, change.hash)


def _forget_intents(tx: Transaction, change: Change) -> None:
    """An intent that names a pack of the change would let the sweeper delete it."""
    packs = tuple(f"{pack.key}." for pack in change.packs_added)
    if not packs:
        return
    rows = tx.rows(
        "SELECT id, keys FROM ledger_upload_intent WHERE repository_id = ?", (change.repository_id,)
    )
    named = [(id_,) for id_, keys in rows if any(key.startswith(packs) for key in json.loads(keys))]
    tx.many("DELETE FROM ledger_upload_intent WHERE id = ?", named)
