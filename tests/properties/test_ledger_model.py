"""Random pushes against a dictionary: the ledger and the model must agree on every step."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstay.foundation.clock import ManualClock
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.database.sqlite import SqliteDatabase
from mainstay.storage.ledger import RefChange
from mainstay.storage.ledger.check import verify_chain
from mainstay.storage.ledger.replay import replay
from mainstay.storage.ledger.sql import SqlLedger
from support.databases import migrated_sqlite, sqlite_template  # noqa: F401 - a fixture works by being here
from support.ledgers import a_push, a_repository, an_oid, refs_of

# Few names, many of which are directories of each other, so that pushes collide often.
NAMES = [b"a", b"a/b", b"a/b/c", b"a-b", b"a/c", b"b", b"b/\xff"]
OIDS = [ZERO_OID, an_oid(1), an_oid(2)]


@dataclass
class Model:
    """What a ledger should do, as plainly as possible."""

    refs: dict[bytes, Oid] = field(default_factory=dict)

    def push(self, changes: list[RefChange], *, atomic: bool) -> tuple[bool, set[bytes]]:
        """(whether anything moved, names refused)."""
        names = [change.name for change in changes]
        refused = {c.name for c in changes if not self._as_expected(c) or names.count(c.name) > 1}
        after = dict(self.refs)
        for change in changes:
            if change.name not in refused and change.new == ZERO_OID:
                del after[change.name]
        for change in changes:
            if change.name in refused or change.new == ZERO_OID:
                continue
            if change.old == ZERO_OID and any(_exclude(change.name, other) for other in after):
                refused.add(change.name)
            else:
                after[change.name] = change.new
        if atomic and refused:
            return False, set(names)
        moved = after != self.refs
        self.refs = after
        return moved, refused

    def _as_expected(self, change: RefChange) -> bool:
        if change.old == change.new == ZERO_OID:
            return False
        return self.refs.get(change.name, ZERO_OID) == change.old


def _exclude(one: bytes, other: bytes) -> bool:
    return one.startswith(other + b"/") or other.startswith(one + b"/")


changes = st.builds(
    lambda name, old, new: RefChange(RefName(b"refs/heads/" + name), old, new),
    st.sampled_from(NAMES),
    st.sampled_from(OIDS),
    st.sampled_from(OIDS),
)
pushes = st.lists(st.tuples(st.lists(changes, min_size=1, max_size=6), st.booleans()), max_size=12)


@pytest.fixture
def database(sqlite_template: Path) -> Iterator[SqliteDatabase]:  # noqa: F811 - the fixture above
    opened = migrated_sqlite(sqlite_template, ":memory:")
    yield opened
    opened.close()


# One database serves all examples: each makes a repository of its own.
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=pushes)
def test_the_ledger_does_what_the_model_does(
    database: SqliteDatabase, sequence: list[tuple[list[RefChange], bool]]
) -> None:
    ledger = SqlLedger(database, ManualClock())
    repository, model, version = a_repository(ledger), Model(), 1
    for changes_, atomic in sequence:
        moved, refused = model.push(changes_, atomic=atomic)
        outcome = ledger.push(a_push(repository, *changes_, atomic=atomic))
        version += moved
        assert outcome.refused.keys() == refused
        assert outcome.version == (version if moved else None)
        assert refs_of(ledger, repository) == model.refs
    assert ledger.repository(repository.id).version == version
    assert verify_chain(database, repository.id) == []
    assert replay(ledger.changes(repository.id, after=0)) == ledger.snapshot(repository.id)
