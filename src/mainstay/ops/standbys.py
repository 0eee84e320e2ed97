"""Does a commit survive the loss of the database server? Asked of the server, and proved by a commit."""

from dataclasses import dataclass

from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.metrics import gauge
from mainstay.storage.database import Database

SYNC_STANDBYS = gauge(
    "database_sync_standbys",
    "Standbys that confirm each commit; -1 when the server does not tell us.",
    across="livemostrecent",
)

_SETTINGS = (
    "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit'),"
    " current_setting('server_version')"
)
_STANDBYS = "SELECT COALESCE(sync_state, '') FROM pg_stat_replication"
_CONFIRMING = {"sync", "quorum"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """What a PostgreSQL server says about its standbys."""

    version: str
    wanted: str
    """`synchronous_standby_names`; empty: commits wait for nobody."""
    commit: str
    """`synchronous_commit`, as our transactions see it."""
    confirming: int | None
    """Standbys in the state `sync` or `quorum`; None: we may not see that."""
    commits: bool | None
    """Whether a commit was confirmed just now; None: it was not tried."""


def look(database: Database, *, try_commit: bool) -> Replication:
    """Ask. Works behind a pooler. Raises `Unavailable`."""
    with database.read() as tx:
        row = tx.row(_SETTINGS)
        states = [str(state) for (state,) in tx.rows(_STANDBYS)]
    assert row is not None, "settings always answer"
    wanted, commit, version = map(str, row)
    return Replication(
        version=version,
        wanted=wanted,
        commit=commit,
        confirming=None if "" in states else sum(state in _CONFIRMING for state in states),
        commits=_commits(database) if try_commit else None,
    )


def note(database: Database) -> None:
    """Keep the metric. Nothing on SQLite, which has no standbys."""
    if database.dialect == "postgresql":
        confirming = look(database, try_commit=False).confirming
        SYNC_STANDBYS.set(-1 if confirming is None else confirming)


def _commits(database: Database) -> bool:
    """Whether a commit is confirmed by whoever has to confirm it."""
    try:
        with database.write() as tx:
            tx.row("SELECT pg_logical_emit_message(true, 'mainstay', 'doctor')::text")
    except (MainstayError, OutcomeUnknown):
        return False
    return True
