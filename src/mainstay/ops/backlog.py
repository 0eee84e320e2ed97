"""Numbers of what waits for workers, in the whole cluster: each worker notes the same ones."""

from mainstay.foundation.clock import Clock
from mainstay.foundation.metrics import gauge
from mainstay.jobs import queue
from mainstay.storage.database import Database
from mainstay.storage.ledger.backlog import backlog

JOBS = gauge("jobs", "Jobs of the cluster, by what they are.", ["state"], across="livemostrecent")
JOB_AGE = gauge(
    "job_oldest_seconds", "How long the job that is due longest has waited.", across="livemostrecent"
)
EVENTS = gauge("events_waiting", "Events that no worker has finished.", across="livemostrecent")
EVENT_AGE = gauge(
    "event_oldest_seconds", "How long ago the oldest of them happened.", across="livemostrecent"
)
UNJOURNALED = gauge(
    "journal_missing_changes", "Changes that the journal does not have yet.", across="livemostrecent"
)
UNJOURNALED_AGE = gauge(
    "journal_oldest_missing_seconds", "How long ago the oldest of them happened.", across="livemostrecent"
)


def note(database: Database, clock: Clock) -> None:
    """Keep the metrics."""
    with database.read() as tx:
        jobs, ledger = queue.statistics(tx), backlog(tx)
    now_ms = clock.now_ms()
    for state, count in (("waiting", jobs.waiting), ("running", jobs.running), ("dead", jobs.dead)):
        JOBS.labels(state).set(count)
    JOB_AGE.set(_age_s(jobs.oldest_due_ms, now_ms))
    EVENTS.set(ledger.events)
    EVENT_AGE.set(_age_s(ledger.oldest_event_ms, now_ms))
    UNJOURNALED.set(ledger.unjournaled)
    UNJOURNALED_AGE.set(_age_s(ledger.oldest_unjournaled_ms, now_ms))


def _age_s(since_ms: int | None, now_ms: int) -> float:
    """A job that is due in the future does not wait."""
    return 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1000
