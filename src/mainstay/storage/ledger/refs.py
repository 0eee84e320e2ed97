"""The refs as they are now. What they were is in `log`."""
# ruff: noqa: S608 - only column lists, marks and clauses of our own are put into SQL

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.database import Transaction
from mainstay.storage.ledger import Ref, RefChange
from mainstay.storage.ledger.judge import directories_of
from mainstay.storage.ledger.log import peeled_of, raw_oid

_Each = TypeVar("_Each")

_CHUNK = 500
"""Names per query: far below the parameter limits of both databases."""
_LOAD_ALL_ABOVE = 1000
"""A push of more refs than this reads all refs once instead of asking for each."""

_INSERT = "INSERT INTO ledger_ref (repository_id, name, oid, peeled) VALUES (?, ?, ?, ?)"


def everything(tx: Transaction, repository_id: int) -> list[Ref]:
    """All refs, sorted by the bytes of their names."""
    found = tx.rows(
        "SELECT name, oid, peeled FROM ledger_ref WHERE repository_id = ? ORDER BY name", (repository_id,)
    )
    return [Ref(RefName(name), Oid(oid.hex()), peeled_of(peeled)) for name, oid, peeled in found]


def named(tx: Transaction, repository_id: int, names: Iterable[RefName]) -> list[Ref]:
    """Those of `names` that exist, sorted by name."""
    found: list[Ref] = []
    for chunk in _chunks(sorted(set(names))):
        marks = ", ".join("?" * len(chunk))
        found += [
            Ref(RefName(name), Oid(oid.hex()), peeled_of(peeled))
            for name, oid, peeled in tx.rows(
                "SELECT name, oid, peeled FROM ledger_ref"
                f" WHERE repository_id = ? AND name IN ({marks}) ORDER BY name",
                (repository_id, *chunk),
            )
        ]
    return found


def default_branches(tx: Transaction, repository_ids: Sequence[int]) -> dict[int, RefName]:
    found: dict[int, RefName] = {}
    for chunk in _chunks(sorted(set(repository_ids))):
        marks = ", ".join("?" * len(chunk))
        rows = tx.rows(
            "SELECT r.id, r.head FROM ledger_repository r"
            " JOIN ledger_ref f ON f.repository_id = r.id AND f.name = r.head"
            f" WHERE r.id IN ({marks})",
            chunk,
        )
        found |= {repository_id: RefName(head) for repository_id, head in rows}
    return found


def _chunks(names: Sequence[_Each]) -> Iterator[list[_Each]]:
    rest = iter(names)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def seen_by(tx: Transaction, repository_id: int, changes: Sequence[RefChange]) -> dict[RefName, Oid]:
    """What `judge` must see: the refs named, those above them, and those below the ones to be created."""
    if len(changes) > _LOAD_ALL_ABOVE:
        return {ref.name: ref.oid for ref in everything(tx, repository_id)}
    created = [change.name for change in changes if change.old == ZERO_OID]
    wanted = {change.name for change in changes}
    wanted.update(above for name in created for above in directories_of(name))
    present = {ref.name: ref.oid for ref in named(tx, repository_id, wanted)}
    deletions = sum(change.new == ZERO_OID for change in changes)
    for name in created:
        present |= _below(tx, repository_id, name, limit=deletions + 1)
    return present


def _below(tx: Transaction, repository_id: int, name: RefName, *, limit: int) -> dict[RefName, Oid]:
    """Refs inside the directory `name`; one more than the push deletes is enough to find a survivor."""
    found = tx.rows(
        "SELECT name, oid FROM ledger_ref WHERE repository_id = ? AND name >= ? AND name < ?"
        " ORDER BY name LIMIT ?",
        (repository_id, name + b"/", name + b"0", limit),  # "0" follows "/" in ASCII
    )
    return {RefName(below): Oid(oid.hex()) for below, oid in found}


def exists(tx: Transaction, repository_id: int, name: RefName) -> bool:
    found = tx.row("SELECT 1 FROM ledger_ref WHERE repository_id = ? AND name = ?", (repository_id, name))
    return found is not None


def apply(tx: Transaction, repository_id: int, moves: Sequence[RefChange]) -> None:
    """Move refs that `judge` let through, under the lock of the repository."""
    # Sorted, so that the tree of the index is filled from left to right.
    ordered = sorted(moves, key=lambda move: move.name)
    tx.many(
        "DELETE FROM ledger_ref WHERE repository_id = ? AND name = ?",
        [(repository_id, move.name) for move in ordered if move.new == ZERO_OID],
    )
    insert(
        tx,
        repository_id,
        (Ref(m.name, m.new, m.peeled) for m in ordered if m.old == ZERO_OID),
    )
    tx.many(
        "UPDATE ledger_ref SET oid = ?, peeled = ? WHERE repository_id = ? AND name = ?",
        [
            (raw_oid(move.new), raw_oid(move.peeled), repository_id, move.name)
            for move in ordered
            if ZERO_OID not in {move.old, move.new}
        ],
    )


def insert(tx: Transaction, repository_id: int, refs: Iterable[Ref]) -> None:
    tx.many(_INSERT, [(repository_id, ref.name, raw_oid(ref.oid), raw_oid(ref.peeled)) for ref in refs])


def delete_all(tx: Transaction, repository_id: int) -> None:
    tx.execute("DELETE FROM ledger_ref WHERE repository_id = ?", (repository_id,))
