"""The queue: jobs in a table, taken by lease.

A job waits until `due_ms`; taking it moves `due_ms` to the end of the lease, so a job whose worker died is
due again by itself. A job that is done is deleted, one that failed waits longer and longer, and one that
failed `max_attempts` times is dead: it stays, with its error, until somebody revives it.

`unique_key` makes requests meet: while one waits, asking again changes nothing; while one runs, asking
again makes it run once more afterwards, because it may have looked before the reason arose.

All functions take an open transaction, so that a job is asked for in the transaction of its reason.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mainstay.storage.database import Transaction

BACKOFF_FIRST_MS = 5_000
BACKOFF_MAX_MS = 3_600_000
ATTEMPTS_MAX = 10
_ERROR_CHARS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its worker sees it."""

    id: int
    name: str
    payload: Mapping[str, Any]
    attempts: int
    """This one included."""
    max_attempts: int
    every_ms: int | None


@dataclass(frozen=True, slots=True)
class Statistics:
    waiting: int
    running: int
    dead: int
    oldest_due_ms: int | None
    """Of the jobs that nobody works on; far in the past means that the workers do not keep up."""


def backoff_ms(attempts: int) -> int:
    """How long a job waits after its n-th failure: 5 s, 10 s, 20 s, … one hour."""
    return min(BACKOFF_FIRST_MS << min(attempts - 1, 20), BACKOFF_MAX_MS)


def enqueue(
    tx: Transaction,
    name: str,
    payload: Mapping[str, Any],
    *,
    run_at_ms: int,
    unique_key: str | None = None,
    max_attempts: int = ATTEMPTS_MAX,
) -> None:
    """Ask for a job at `run_at_ms` or soon after. An earlier request of the same key is brought forward."""
    tx.execute(
        "INSERT INTO jobs_job (name, payload, unique_key, due_ms, attempts, max_attempts, again, dead,"
        " last_error) VALUES (?, ?, ?, ?, 0, ?, ?, ?, '')"
        " ON CONFLICT (unique_key) DO UPDATE SET"
        " again = jobs_job.lease_owner IS NOT NULL,"
        " due_ms = CASE WHEN jobs_job.lease_owner IS NULL AND jobs_job.attempts = 0"
        " AND excluded.due_ms < jobs_job.due_ms THEN excluded.due_ms ELSE jobs_job.due_ms END",
        (name, json.dumps(payload), unique_key, run_at_ms, max_attempts, False, False),
    )


def take(
    tx: Transaction, *, names: Collection[str], owner: str, now_ms: int, lease_s: int, limit: int
) -> list[Job]:
    """Lease due jobs that this worker knows, the longest due first. Two takers never get the same job."""
    if not names or limit < 1:
        return []
    _bury_crashed(tx, now_ms)
    marks = ", ".join("?" * len(names))
    skip = " FOR UPDATE SKIP LOCKED" if tx.dialect == "postgresql" else ""
    chosen = (
        f"SELECT id FROM jobs_job WHERE NOT dead AND due_ms <= ? AND name IN ({marks})"  # noqa: S608 - marks only
        f" ORDER BY due_ms, id LIMIT ?{skip}"
    )
    found = tx.rows(
        f"UPDATE jobs_job SET due_ms = ?, lease_owner = ?, attempts = attempts + 1 WHERE id IN ({chosen})"  # noqa: S608 - see above
        " RETURNING id, name, payload, attempts, max_attempts, every_ms",
        (now_ms + lease_s * 1000, owner, now_ms, *sorted(names), limit),
    )
    jobs = [Job(id_, name, json.loads(payload), *rest) for id_, name, payload, *rest in found]
    return sorted(jobs, key=lambda job: job.id)


def _bury_crashed(tx: Transaction, now_ms: int) -> None:
    """A job that took its worker down at every attempt never failed properly; it is dead all the same."""
    tx.execute(
        "UPDATE jobs_job SET dead = ?, unique_key = NULL, lease_owner = NULL,"
        " last_error = 'its worker went away at the last attempt'"
        " WHERE NOT dead AND due_ms <= ? AND lease_owner IS NOT NULL AND attempts >= max_attempts"
        " AND every_ms IS NULL",
        (True, now_ms),
    )


def heartbeat(tx: Transaction, ids: Sequence[int], *, owner: str, now_ms: int, lease_s: int) -> None:
    """Prolong the leases that are still held."""
    tx.many(
        "UPDATE jobs_job SET due_ms = ? WHERE id = ? AND lease_owner = ?",
        [(now_ms + lease_s * 1000, id_, owner) for id_ in ids],
    )


def finish(tx: Transaction, job: Job, *, owner: str, now_ms: int) -> bool:
    """The job is done. False when the lease was lost meanwhile: somebody else does it again."""
    repeated = tx.execute(
        "UPDATE jobs_job SET due_ms = CASE WHEN again THEN ? ELSE ? + every_ms END, again = ?, attempts = 0,"
        " lease_owner = NULL, last_error = ''"
        " WHERE id = ? AND lease_owner = ? AND (again OR every_ms IS NOT NULL)",
        (now_ms, now_ms, False, job.id, owner),
    )
    if repeated:
        return True
    return tx.execute("DELETE FROM jobs_job WHERE id = ? AND lease_owner = ?", (job.id, owner)) == 1


def fail(tx: Transaction, job: Job, *, owner: str, error: str, now_ms: int) -> bool:
    """The job failed: wait and try again, or bury it. Returns whether it is dead now.

    A periodic job never dies; after its last attempt it waits for its next turn.
    """
    is_last = job.attempts >= job.max_attempts
    if is_last and job.every_ms is None:
        return _bury(tx, job, owner, error)
    tx.execute(
        "UPDATE jobs_job SET due_ms = ?, attempts = ?, lease_owner = NULL, last_error = ?"
        " WHERE id = ? AND lease_owner = ?",
        (
            now_ms + ((job.every_ms or 0) if is_last else backoff_ms(job.attempts)),
            0 if is_last else job.attempts,
            error[:_ERROR_CHARS_MAX],
            job.id,
            owner,
        ),
    )
    return False


def _bury(tx: Transaction, job: Job, owner: str, error: str) -> bool:
    # The key is given free: the next request of it is a new job.
    changed = tx.execute(
        "UPDATE jobs_job SET dead = ?, unique_key = NULL, lease_owner = NULL, last_error = ?"
        " WHERE id = ? AND lease_owner = ?",
        (True, error[:_ERROR_CHARS_MAX], job.id, owner),
    )
    return changed == 1


def release(tx: Transaction, ids: Sequence[int], *, owner: str, now_ms: int) -> None:
    """Give back jobs that were taken but not begun; the attempt does not count."""
    tx.many(
        "UPDATE jobs_job SET due_ms = ?, attempts = attempts - 1, lease_owner = NULL"
        " WHERE id = ? AND lease_owner = ?",
        [(now_ms, id_, owner) for id_ in ids],
    )


def revive(tx: Transaction, job_id: int, *, now_ms: int) -> bool:
    """Try a dead job again, as if it were new. False when there is no such dead job."""
    changed = tx.execute(
        "UPDATE jobs_job SET dead = ?, attempts = 0, due_ms = ? WHERE id = ? AND dead",
        (False, now_ms, job_id),
    )
    return changed == 1


def statistics(tx: Transaction) -> Statistics:
    found = tx.row(
        "SELECT COUNT(CASE WHEN NOT dead AND lease_owner IS NULL THEN 1 END),"
        " COUNT(CASE WHEN NOT dead AND lease_owner IS NOT NULL THEN 1 END),"
        " COUNT(CASE WHEN dead THEN 1 END),"
        " MIN(CASE WHEN NOT dead AND lease_owner IS NULL THEN due_ms END) FROM jobs_job"
    )
    assert found is not None, "an aggregate always gives a row"
    return Statistics(*found)


def due_by_name(tx: Transaction, *, now_ms: int) -> dict[str, int]:
    """How many jobs of each name are due and not taken."""
    found = tx.rows(
        "SELECT name, COUNT(*) FROM jobs_job WHERE NOT dead AND lease_owner IS NULL AND due_ms <= ?"
        " GROUP BY name",
        (now_ms,),
    )
    return {str(name): int(count) for name, count in found}
