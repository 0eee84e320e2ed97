"""Which packs a repository is made of, and which packs nobody needs any more.

A pack is a row of its own, because forks share it. It is doomed when the last manifest that named it lets
it go; `doomed_at_ms` starts the time after which the sweeper may delete its files.
"""
# ruff: noqa: S608 - only column lists, marks and clauses of our own are put into SQL

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from mainstay.storage.database import Transaction
from mainstay.storage.ledger import Pack, PacksMoved

_COLUMNS = "p.id, p.key, p.sha256, p.size_bytes, p.objects_count, p.kind, p.sealed, p.artefacts"
_CHUNK = 500


def _pack(values: tuple[Any, ...]) -> Pack:
    return Pack(
        id=values[0],
        key=values[1],
        sha256=values[2],
        size_bytes=values[3],
        objects=values[4],
        kind=values[5],
        sealed=bool(values[6]),
        artefacts=tuple(values[7].split()),
        added_version=values[8],
    )


def everything(tx: Transaction, repository_id: int) -> list[Pack]:
    """The manifest, oldest first."""
    found = tx.rows(
        f"SELECT {_COLUMNS}, m.added_version FROM ledger_repository_pack m"
        " JOIN ledger_pack p ON p.id = m.pack_id WHERE m.repository_id = ?"
        " ORDER BY m.added_version, p.id",
        (repository_id,),
    )
    return [_pack(values) for values in found]


def one(tx: Transaction, repository_id: int, pack_id: str) -> Pack:
    """A pack of the manifest, or `PacksMoved`."""
    found = tx.row(
        f"SELECT {_COLUMNS}, m.added_version FROM ledger_repository_pack m"
        " JOIN ledger_pack p ON p.id = m.pack_id WHERE m.repository_id = ? AND m.pack_id = ?",
        (repository_id, pack_id),
    )
    if found is None:
        raise PacksMoved(f"pack {pack_id} is not in the manifest of repository {repository_id}")
    return _pack(found)


def add(tx: Transaction, repository_id: int, packs: Iterable[Pack], version: int) -> list[Pack]:
    """Bring new packs into being and into the manifest; return them as they are there."""
    added = [replace(pack, added_version=version) for pack in packs]
    insert(tx, added)
    name(tx, repository_id, added)
    return added


def insert(tx: Transaction, packs: Iterable[Pack], *, or_revive: bool = False) -> None:
    """Rows of packs. `or_revive`: a pack that is there already, perhaps doomed, is wanted again."""
    tx.many(
        "INSERT INTO ledger_pack (id, key, sha256, size_bytes, objects_count, kind, sealed, artefacts,"
        " doomed_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        + (" ON CONFLICT (id) DO UPDATE SET doomed_at_ms = NULL" if or_revive else ""),
        [
            (
                pack.id,
                pack.key,
                pack.sha256,
                pack.size_bytes,
                pack.objects,
                pack.kind,
                pack.sealed,
                " ".join(sorted(pack.artefacts)),
                None,
            )
            for pack in packs
        ],
    )


def name(tx: Transaction, repository_id: int, packs: Iterable[Pack]) -> None:
    """Put packs that exist into a manifest, with the version that each says."""
    tx.many(
        "INSERT INTO ledger_repository_pack (repository_id, pack_id, added_version) VALUES (?, ?, ?)",
        [(repository_id, pack.id, pack.added_version) for pack in packs],
    )


def remove(tx: Transaction, repository_id: int, pack_ids: Sequence[str], at_ms: int) -> None:
    """Take packs out of the manifest, all or none, and doom those that no manifest names any more."""
    distinct = sorted(set(pack_ids))
    lock(tx, distinct)
    removed = 0
    for marks, chunk in _chunks(distinct):
        removed += tx.execute(
            f"DELETE FROM ledger_repository_pack WHERE repository_id = ? AND pack_id IN ({marks})",
            (repository_id, *chunk),
        )
    if removed != len(distinct):
        raise PacksMoved(
            f"{len(distinct) - removed} of {len(distinct)} packs left repository {repository_id} meanwhile"
        )
    for marks, chunk in _chunks(distinct):
        tx.execute(
            f"UPDATE ledger_pack SET doomed_at_ms = ? WHERE id IN ({marks}) AND NOT EXISTS"
            " (SELECT 1 FROM ledger_repository_pack m WHERE m.pack_id = ledger_pack.id)",
            (at_ms, *chunk),
        )


def lock(tx: Transaction, pack_ids: Sequence[str]) -> None:
    """Let one transaction at a time decide who names these packs.

    Without this, two repositories that drop a shared pack at the same moment would each still see the
    other's row, and nobody would doom it. SQLite has one writer and needs no lock.
    """
    if tx.dialect == "postgresql":
        for marks, chunk in _chunks(pack_ids):
            tx.rows(f"SELECT id FROM ledger_pack WHERE id IN ({marks}) ORDER BY id FOR UPDATE", chunk)


def _chunks(pack_ids: Sequence[str]) -> Iterable[tuple[str, Sequence[str]]]:
    for start in range(0, len(pack_ids), _CHUNK):
        chunk = pack_ids[start : start + _CHUNK]
        yield ", ".join("?" * len(chunk)), chunk


def set_artefacts(tx: Transaction, pack: Pack) -> None:
    tx.execute("UPDATE ledger_pack SET artefacts = ? WHERE id = ?", (" ".join(pack.artefacts), pack.id))


def doomed(tx: Transaction, before_ms: int, limit: int) -> list[Pack]:
    found = tx.rows(
        f"SELECT {_COLUMNS}, 0 FROM ledger_pack p WHERE p.doomed_at_ms IS NOT NULL AND p.doomed_at_ms < ?"
        " ORDER BY p.doomed_at_ms, p.id LIMIT ?",
        (before_ms, limit),
    )
    return [_pack(values) for values in found]


def forget(tx: Transaction, pack_id: str) -> None:
    """Drop the row of a doomed pack. One that a manifest names stays, whatever the caller thinks."""
    tx.execute(
        "DELETE FROM ledger_pack WHERE id = ? AND doomed_at_ms IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM ledger_repository_pack m WHERE m.pack_id = ledger_pack.id)",
        (pack_id,),
    )
