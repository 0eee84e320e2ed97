"""Jobs that come again and again: one row each, found by its key, so that many nodes make one schedule.

The next turn is counted from the end of the last one: a job never overlaps with itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mainstay.storage.database import Transaction

_ATTEMPTS_PER_TURN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """A job to be done every so often. `name` is the name of its handler."""

    name: str
    every_s: int
    payload: Mapping[str, Any] = field(default_factory=dict)


def ensure(tx: Transaction, periodics: Sequence[Periodic], *, now_ms: int) -> None:
    """Make the schedule so. New ones are due at once; one that is there keeps its turn, with the new pace.

    One that is no longer in the list stays, because a node of another version may still want it: workers
    leave names they do not know alone.
    """
    tx.many(
        "INSERT INTO jobs_job (name, payload, unique_key, due_ms, attempts, max_attempts, again, every_ms,"
        " dead, last_error) VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, '')"
        " ON CONFLICT (unique_key) DO UPDATE SET every_ms = excluded.every_ms, payload = excluded.payload",
        [
            (
                periodic.name,
                json.dumps(periodic.payload),
                f"periodic:{periodic.name}",
                now_ms,
                _ATTEMPTS_PER_TURN,
                False,
                periodic.every_s * 1000,
                False,
            )
            for periodic in sorted(periodics, key=lambda periodic: periodic.name)
        ],
    )
