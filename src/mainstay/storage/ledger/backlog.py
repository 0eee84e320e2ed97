"""What the ledger still has to do: events that nobody took, changes that are not in the journal."""

from dataclasses import dataclass

from mainstay.storage.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    events: int
    oldest_event_ms: int | None
    """When the oldest of them happened; None: there is none."""
    unjournaled: int
    oldest_unjournaled_ms: int | None


def backlog(tx: Transaction) -> Backlog:
    events = tx.row("SELECT COUNT(*), MIN(at_ms) FROM ledger_event")
    changes = tx.row("SELECT COUNT(*), MIN(at_ms) FROM ledger_change WHERE NOT journaled")
    assert events is not None, "an aggregate always gives a row"
    assert changes is not None, "same"
    return Backlog(
        events=events[0],
        oldest_event_ms=events[1],
        unjournaled=changes[0],
        oldest_unjournaled_ms=changes[1],
    )
