"""Upload intents: what names an orphan.

An intent is written before the objects. The commit that uses the objects consumes the intent; the sweeper
claims one that expired, and only then deletes. Both touch the same row, so exactly one of them wins.
"""
# ruff: noqa: S608 - only column lists, marks and clauses of our own are put into SQL

import json
from collections.abc import Sequence

from mainstay.foundation.ids import new_ulid
from mainstay.storage.database import Transaction
from mainstay.storage.ledger import UploadIntent, UploadReaped
from mainstay.storage.ledger.chain import compact


def begin(
    tx: Transaction, repository_id: int, keys: Sequence[str], expires_ms: int, intent_id: str = ""
) -> str:
    """Recorded once, however often it is tried with the same id."""
    intent_id = intent_id or new_ulid()
    tx.execute(
        "INSERT INTO ledger_upload_intent (id, repository_id, keys, expires_ms, claimed)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (intent_id, repository_id, compact(list(keys)), expires_ms, False),
    )
    return intent_id


def extend(tx: Transaction, intent_id: str, expires_ms: int) -> bool:
    changed = tx.execute(
        "UPDATE ledger_upload_intent SET expires_ms = ? WHERE id = ? AND NOT claimed", (expires_ms, intent_id)
    )
    return changed == 1


def consume(tx: Transaction, repository_id: int, intents: Sequence[str]) -> None:
    """Part of the commit that uses the objects. Raises `UploadReaped` when the sweeper was first."""
    distinct = sorted(set(intents))
    if not distinct:
        return
    marks = ", ".join("?" * len(distinct))
    consumed = tx.execute(
        f"DELETE FROM ledger_upload_intent WHERE id IN ({marks}) AND repository_id = ? AND NOT claimed",
        (*distinct, repository_id),
    )
    if consumed != len(distinct):
        raise UploadReaped(f"{len(distinct) - consumed} of {len(distinct)} uploads were given up as too old")


def claim(tx: Transaction, expired_at_ms: int, limit: int) -> list[UploadIntent]:
    """Claim expired intents; return those and the ones claimed earlier, oldest first."""
    chosen = (
        "SELECT id FROM ledger_upload_intent WHERE claimed OR expires_ms <= ? ORDER BY expires_ms LIMIT ?"
    )
    found = tx.rows(
        f"UPDATE ledger_upload_intent SET claimed = ? WHERE id IN ({chosen})"
        " AND (claimed OR expires_ms <= ?) RETURNING id, repository_id, keys, expires_ms",
        (True, expired_at_ms, limit, expired_at_ms),
    )
    intents = [UploadIntent(id_, repository, json.loads(keys), at) for id_, repository, keys, at in found]
    return sorted(intents, key=lambda intent: (intent.expires_ms, intent.id))


def forget(tx: Transaction, intent_id: str) -> None:
    tx.execute("DELETE FROM ledger_upload_intent WHERE id = ?", (intent_id,))
