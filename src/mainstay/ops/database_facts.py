"""What the database says about itself: its kind, its version, and who stands by for it."""

from typing import Any

from mainstay.cluster.line import Line
from mainstay.storage.database import Transaction

_SERVER = """
SELECT current_setting('server_version'), current_setting('synchronous_standby_names'),
       current_setting('synchronous_commit')
"""
_STANDBYS = """
SELECT COALESCE(application_name, ''), COALESCE(state, ''), COALESCE(sync_state, '')
FROM pg_stat_replication ORDER BY application_name
"""
_DURABLE = {"on", "remote_apply"}


def database_facts(line: Line) -> dict[str, Any]:
    """Facts as `status` shows them; `problem` is set when something must be looked after."""
    with line.read() as tx:
        if tx.dialect == "sqlite":
            return {"status": "ok", "kind": "sqlite", "synchronous_standbys": None}
        return _postgresql(tx)


def _postgresql(tx: Transaction) -> dict[str, Any]:
    row = tx.row(_SERVER)
    assert row is not None, "settings always answer"
    version, wanted, commit = map(str, row)
    standbys = [
        {"name": name, "state": state or "not told", "sync": sync or "not told"}
        for name, state, sync in tx.rows(_STANDBYS)
    ]
    confirming = [each for each in standbys if each["sync"] in ("sync", "quorum")]
    facts: dict[str, Any] = {
        "status": "ok",
        "kind": "postgresql",
        "version": version,
        "synchronous_standbys": len(confirming),
        "standbys": standbys,
    }
    if problem := _problem(wanted, commit, told=_all_told(standbys), confirming=len(confirming)):
        facts["problem"] = problem
    return facts


def _all_told(standbys: list[dict[str, str]]) -> bool:
    """Whether we may see more than that there is one; otherwise nothing is known about it."""
    return all(each["sync"] != "not told" for each in standbys)


def _problem(wanted: str, commit: str, *, told: bool, confirming: int) -> str:
    """A database that should have a synchronous standby and has none. That none is wanted is for `doctor`."""
    if not wanted or not told:
        return ""
    if confirming == 0:
        return "the database waits for a synchronous standby and has none: commits wait until there is one"
    if commit not in _DURABLE:
        return f"the database has synchronous_commit = {commit}: a commit may be lost with the primary"
    return ""
