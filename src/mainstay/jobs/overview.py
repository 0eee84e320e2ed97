"""The queue as an operator sees it: what waits, what runs, what failed too often; and another try."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mainstay.foundation.errors import NotFound
from mainstay.jobs import queue
from mainstay.storage.database import Transaction

State = Literal["failed", "running", "waiting"]
"""`failed`: as often as it may; nobody tries it again unless it is revived."""

JOBS_MAX = 1_000
_STATE = "CASE WHEN dead THEN 'failed' WHEN lease_owner IS NOT NULL THEN 'running' ELSE 'waiting' END"
_COLUMNS = f"id, name, {_STATE}, payload, attempts, max_attempts, due_ms, every_ms, lease_owner, last_error"


class NoSuchJob(NotFound):
    """No job has this id: it never was, was forgotten, or is done."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job."""

    id: int
    name: str
    state: State
    payload: Mapping[str, Any]
    attempts: int
    max_attempts: int
    due_ms: int
    """When it is tried next; for one that runs, when its worker is given up."""
    every_ms: int | None
    worker: str | None
    error: str
    """Of the last attempt that failed."""


def listed(tx: Transaction, state: State | None = None, *, limit: int = JOBS_MAX) -> list[JobRow]:
    """Jobs in one state or in any, the longest due first."""
    of_it, asked = ("", ()) if state is None else (f" WHERE {_STATE} = ?", (state,))
    found = tx.rows(
        f"SELECT {_COLUMNS} FROM jobs_job{of_it} ORDER BY due_ms, id LIMIT ?",  # noqa: S608 - constants only
        (*asked, limit),
    )
    return [_row(values) for values in found]


def revive(tx: Transaction, ids: Sequence[int], *, now_ms: int) -> list[JobRow]:
    """Try failed jobs again; what has not failed for good is left as it is. Or `NoSuchJob`, and nothing."""
    for id_ in ids:
        queue.revive(tx, id_, now_ms=now_ms)
    return [_named(tx, id_) for id_ in ids]


def forget(tx: Transaction, ids: Sequence[int]) -> list[JobRow]:
    """Give up failed jobs; what has not failed for good is left as it is. Or `NoSuchJob`, and nothing."""
    known = [_named(tx, id_) for id_ in ids]
    for id_ in ids:
        tx.execute("DELETE FROM jobs_job WHERE id = ? AND dead", (id_,))
    return known


def _named(tx: Transaction, id_: int) -> JobRow:
    values = tx.row(f"SELECT {_COLUMNS} FROM jobs_job WHERE id = ?", (id_,))  # noqa: S608 - constants only
    if values is None:
        raise NoSuchJob(f"there is no job {id_}: a job that is done is not listed any more")
    return _row(values)


def _row(values: Sequence[Any]) -> JobRow:
    id_, name, state, payload, *rest = values
    return JobRow(id_, name, state, json.loads(payload), *rest)
