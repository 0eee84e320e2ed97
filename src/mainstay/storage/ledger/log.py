"""The log of changes: appending one, and reading them back.

A change is written once and never altered, except for the note that its journal record is stored.
"""
# ruff: noqa: S608 - only column lists, marks and clauses of our own are put into SQL

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.database import Transaction, expect_long_rests
from mainstay.storage.ledger import Change, ChangeKind, Pack, RefChange, Repository
from mainstay.storage.ledger.chain import compact, pack_facts, pack_of, sealed, sorted_refs
from mainstay.storage.ledger.repositories import Row, write_back

_COLUMNS = (
    "repository_id, uid, version, kind, push_id, actor, at_ms, packs_added, packs_removed, head, identity,"
    " details, hash, previous_hash"
)
MANY_REFS = 10_000
"""So many take a noticeable part of a second to judge and to hash."""


def raw_oid(oid: Oid | None) -> bytes | None:
    """An object name as it is stored; absent is null."""
    return None if oid is None or oid == ZERO_OID else bytes.fromhex(oid)


def oid_of(raw: bytes | None) -> Oid:
    return ZERO_OID if raw is None else Oid(raw.hex())


def peeled_of(raw: bytes | None) -> Oid | None:
    return None if raw is None else Oid(raw.hex())


def append(
    tx: Transaction,
    row: Row,
    *,
    kind: ChangeKind,
    actor: str,
    at_ms: int,
    after: Repository | None = None,
    push_id: str | None = None,
    refs: Sequence[RefChange] = (),
    packs_added: Sequence[Pack] = (),
    packs_removed: Sequence[str] = (),
    head: RefName | None = None,
    identity: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
) -> Repository:
    """Write the next change of the locked `row`, and the repository as it is `after` it.

    `after` is the repository with the fields that the change changed; the version is set here.
    """
    if len(refs) > MANY_REFS:
        expect_long_rests(tx)
    version = row.repository.version + 1
    change = sealed(
        Change(
            repository_id=row.repository.id,
            uid=row.repository.uid,
            version=version,
            kind=kind,
            push_id=push_id,
            actor=actor,
            at_ms=at_ms,
            refs=sorted_refs(refs),
            packs_added=packs_added,
            packs_removed=packs_removed,
            head=head,
            identity=identity,
            details=details or {},
            hash="",
            previous_hash=row.hash,
        )
    )
    insert(tx, [change], journaled=False)
    repository = replace(after or row.repository, version=version)
    write_back(tx, repository, change.hash)
    return repository


def insert(tx: Transaction, changes: Sequence[Change], *, journaled: bool) -> None:
    tx.many(
        f"INSERT INTO ledger_change ({_COLUMNS}, journaled)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*_values(change), journaled) for change in changes],
    )
    tx.many(
        "INSERT INTO ledger_ref_change (repository_id, version, name, old_oid, new_oid, peeled)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (c.repository_id, c.version, ref.name, raw_oid(ref.old), raw_oid(ref.new), raw_oid(ref.peeled))
            for c in changes
            for ref in c.refs
        ],
    )


def _values(change: Change) -> tuple[Any, ...]:
    return (
        change.repository_id,
        change.uid,
        change.version,
        change.kind,
        change.push_id,
        change.actor,
        change.at_ms,
        compact([pack_facts(pack) for pack in change.packs_added]),
        compact(list(change.packs_removed)),
        change.head,
        None if change.identity is None else compact(change.identity),
        compact(change.details),
        change.hash,
        change.previous_hash,
    )


def _change(values: tuple[Any, ...], refs: Sequence[RefChange]) -> Change:
    return Change(
        repository_id=values[0],
        uid=values[1],
        version=values[2],
        kind=values[3],
        push_id=values[4],
        actor=values[5],
        at_ms=values[6],
        refs=refs,
        packs_added=[pack_of(facts) for facts in json.loads(values[7])],
        packs_removed=json.loads(values[8]),
        head=None if values[9] is None else RefName(values[9]),
        identity=None if values[10] is None else json.loads(values[10]),
        details=json.loads(values[11]),
        hash=values[12],
        previous_hash=values[13],
    )


def _ref_change(values: tuple[Any, ...]) -> RefChange:
    name, old, new, peeled = values
    return RefChange(RefName(name), oid_of(old), oid_of(new), peeled_of(peeled))


def after(tx: Transaction, repository_id: int, version: int, limit: int) -> list[Change]:
    """Changes after `version`, in order, with their refs."""
    found = tx.rows(
        f"SELECT {_COLUMNS} FROM ledger_change WHERE repository_id = ? AND version > ?"
        " ORDER BY version LIMIT ?",
        (repository_id, version, limit),
    )
    if not found:
        return []
    moved = ref_changes(tx, repository_id, version, found[-1][2])
    by_version = {v: [ref for _, ref in group] for v, group in groupby(moved, key=lambda pair: pair[0])}
    return [_change(values, by_version.get(values[2], [])) for values in found]


def ref_changes(
    tx: Transaction, repository_id: int, after: int, until: int, *, limit: int | None = None
) -> list[tuple[int, RefChange]]:
    """(version, change) of each ref moved after one version and until another, in order."""
    sql = (
        "SELECT version, name, old_oid, new_oid, peeled FROM ledger_ref_change"
        " WHERE repository_id = ? AND version > ? AND version <= ? ORDER BY version, name"
    )
    if limit is None:
        found = tx.rows(sql, (repository_id, after, until))
    else:
        found = tx.rows(f"{sql} LIMIT ?", (repository_id, after, until, limit))
    return [(version, _ref_change(tuple(values))) for version, *values in found]


def has(tx: Transaction, repository_id: int, version: int) -> bool:
    """Whether the log still knows this change: a rebuilt one may begin later."""
    found = tx.row(
        "SELECT 1 FROM ledger_change WHERE repository_id = ? AND version = ?", (repository_id, version)
    )
    return found is not None


def of_ref(tx: Transaction, repository_id: int, name: RefName, limit: int) -> list[Change]:
    """Changes that moved `name`, newest first, each with only that ref."""
    columns = ", ".join(f"c.{column.strip()}" for column in _COLUMNS.split(","))
    found = tx.rows(
        f"SELECT {columns}, r.name, r.old_oid, r.new_oid, r.peeled FROM ledger_ref_change r"
        " JOIN ledger_change c ON c.repository_id = r.repository_id AND c.version = r.version"
        " WHERE r.repository_id = ? AND r.name = ? ORDER BY r.version DESC LIMIT ?",
        (repository_id, name, limit),
    )
    return [_change(values[:-4], [_ref_change(values[-4:])]) for values in found]


def unjournaled(tx: Transaction, limit: int) -> list[Change]:
    found = tx.rows(
        f"SELECT {_COLUMNS} FROM ledger_change WHERE NOT journaled"
        " ORDER BY at_ms, repository_id, version LIMIT ?",
        (limit,),
    )
    return [
        _change(values, [ref for _, ref in ref_changes(tx, values[0], values[2] - 1, values[2])])
        for values in found
    ]


def mark_journaled(tx: Transaction, versions: Sequence[tuple[int, int]]) -> None:
    tx.many(
        "UPDATE ledger_change SET journaled = ? WHERE repository_id = ? AND version = ?",
        [(True, repository_id, version) for repository_id, version in versions],
    )


def details_of_push(tx: Transaction, push_id: str) -> tuple[int, int, Mapping[str, Any]] | None:
    """(repository id, version, details) of the change that a push made."""
    found = tx.row("SELECT repository_id, version, details FROM ledger_change WHERE push_id = ?", (push_id,))
    return None if found is None else (found[0], found[1], json.loads(found[2]))
