"""The outbox: facts written in the transaction that made them true, delivered later, at least once."""
# ruff: noqa: S608 - only column lists, marks and clauses of our own are put into SQL

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mainstay.storage.database import Transaction
from mainstay.storage.ledger import Event
from mainstay.storage.ledger.chain import compact


def add(tx: Transaction, topic: str, payload: Mapping[str, Any], at_ms: int) -> None:
    tx.execute(
        "INSERT INTO ledger_event (topic, payload, at_ms, attempts, due_ms) VALUES (?, ?, ?, 0, ?)",
        (topic, compact(payload), at_ms, at_ms),
    )


def take(tx: Transaction, *, owner: str, now_ms: int, lease_ms: int, limit: int) -> list[Event]:
    """Lease what is due, oldest first. Two takers never wait for each other and never get the same event."""
    skip = " FOR UPDATE SKIP LOCKED" if tx.dialect == "postgresql" else ""
    found = tx.rows(
        "UPDATE ledger_event SET due_ms = ?, lease_owner = ?, attempts = attempts + 1 WHERE id IN"
        f" (SELECT id FROM ledger_event WHERE due_ms <= ? ORDER BY due_ms, id LIMIT ?{skip})"
        " RETURNING id, topic, payload, at_ms, attempts",
        (now_ms + lease_ms, owner, now_ms, limit),
    )
    events = [Event(id_, topic, json.loads(text), at, count) for id_, topic, text, at, count in found]
    return sorted(events, key=lambda event: event.id)


def finish(tx: Transaction, ids: Sequence[int]) -> None:
    tx.many("DELETE FROM ledger_event WHERE id = ?", [(id_,) for id_ in ids])
