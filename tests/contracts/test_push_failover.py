"""A push whose database goes away at some step: it waits, commits on the next primary, and says the truth."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mainstay.foundation import failpoints
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import OutcomeUnknown
from mainstay.foundation.ids import new_ulid
from mainstay.storage.database import DatabaseCutOff, postgresql
from mainstay.storage.database.commits import commit as real_commit
from mainstay.storage.database.faults import Connection
from mainstay.storage.database.postgresql import BEGIN_S_MAX, PostgresqlDatabase
from mainstay.storage.hold import Hold
from mainstay.storage.ledger import PushOutcome, Repository
from mainstay.storage.ledger.check import verify_chain
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects.memory import MemoryStore
from mainstay.storage.push import NotCommitted, PushStore
from mainstay.storage.upload import PackFiles, Uploads
from support.databases import migrate
from support.half_push import wait_until
from support.ledgers import MAIN, a_pack, a_push, a_repository, create, refs_of
from support.postgres_pair import Pair

pytestmark = pytest.mark.xdist_group("postgres-pair")

HOLD_S = 60.0


@pytest.fixture(scope="module")
def template(postgres_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> str:
    postgres_pair.primary.do("CREATE DATABASE template")
    migrate(tmp_path_factory.mktemp("template"), postgres_pair.primary.url("template"))
    return "template"


class Pushing:
    """All that a push needs, on a fresh database of the pair."""

    def __init__(self, pair: Pair, template: str, directory: Path) -> None:
        name = f"test_{new_ulid().lower()}"
        pair.primary.do(f"CREATE DATABASE {name} TEMPLATE {template}")
        self.pair = pair
        self.database = PostgresqlDatabase(pair.url(name), connections_max=4)
        self.ledger = SqlLedger(self.database, SYSTEM)
        self.objects = MemoryStore(clock=SYSTEM)
        self.threads = ThreadPoolExecutor(4)
        self.repository: Repository = a_repository(self.ledger)
        self.file = directory / "pack"
        self.file.write_bytes(b"PACK and so on")
        self.push = a_push(self.repository, create(MAIN))

    def commit(self, *, hold_s: float = HOLD_S) -> PushOutcome:
        uploads = Uploads(ledger=self.ledger, objects=self.objects, clock=SYSTEM, threads=self.threads)
        store = PushStore(
            ledger=self.ledger, objects=self.objects, clock=SYSTEM, uploads=uploads, hold=Hold(hold_s)
        )
        files = PackFiles(a_pack(artefacts=()), {"pack": self.file})
        return store.commit(self.push, self.repository, [files])

    def assert_pushed_once(self, outcome: PushOutcome) -> None:
        assert outcome.version == self.repository.version + 1
        assert refs_of(self.ledger, self.repository).keys() == {MAIN}
        changes = self.ledger.changes(self.repository.id, after=0)
        assert [change.push_id for change in changes if change.kind == "push"] == [self.push.push_id]
        assert verify_chain(self.database, self.repository.id) == []
        with self.database.read() as tx:
            assert tx.rows("SELECT id FROM ledger_upload_intent") == []

    def close(self) -> None:
        self.database.close()
        self.threads.shutdown()


@pytest.fixture
def pushing(pair: Pair, template: str, tmp_path: Path) -> Iterator[Pushing]:
    pushing = Pushing(pair, template, tmp_path)
    yield pushing
    pushing.close()


def once(action: Callable[[], None]) -> Callable[[], None]:
    done = threading.Event()

    def act() -> None:
        if not done.is_set():
            done.set()
            action()

    return act


def test_a_database_that_is_away_is_waited_for_but_not_for_ever(pair: Pair, pushing: Pushing) -> None:
    pair.primary.kill()
    with pytest.raises(NotCommitted):
        pushing.commit(hold_s=0.5)
    with ThreadPoolExecutor(1) as other:
        outcome = other.submit(pushing.commit)
        pair.promote()
        pushing.assert_pushed_once(outcome.result(timeout=HOLD_S))


@pytest.mark.parametrize("point", ["push.objects_stored", "ledger.push_applied"])
def test_a_failover_between_two_steps_is_a_slow_push(
    pair: Pair, pushing: Pushing, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setitem(failpoints._armed, point, once(pair.fail_over))
    pushing.assert_pushed_once(pushing.commit())


@pytest.mark.parametrize("arrived", [True, False], ids=["committed", "not-committed"])
def test_a_commit_whose_answer_was_lost_is_settled_by_its_id(
    pair: Pair, pushing: Pushing, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    def commit_and_lose(connection: Connection) -> None:
        monkeypatch.setattr(postgresql, "commit", real_commit)
        if arrived:
            real_commit(connection)
        pair.fail_over()
        raise OutcomeUnknown("the answer was lost")

    def lose_next() -> None:
        monkeypatch.setattr(postgresql, "commit", commit_and_lose)

    monkeypatch.setitem(failpoints._armed, "ledger.push_applied", once(lose_next))
    pushing.assert_pushed_once(pushing.commit())


def test_a_commit_that_waits_for_a_lost_standby_is_never_ok(
    pair: Pair, pushing: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server would wait for ever and cancels nothing; whoever waits hangs up and cannot know."""
    monkeypatch.setitem(failpoints._armed, "ledger.push_applied", once(pair.standby.freeze))
    with pytest.raises(OutcomeUnknown):
        pushing.commit(hold_s=1)


def test_a_push_of_a_node_that_alone_is_cut_off_is_given_up_at_once(
    pair: Pair, pushing: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node will do. Nothing has happened, and the same push goes through when the line is back."""
    monkeypatch.setitem(
        failpoints._armed, "push.objects_stored", once(lambda: pushing.database.cut_off("only here"))
    )
    with pytest.raises(DatabaseCutOff, match="only here"):
        pushing.commit()
    pushing.database.cut_off(None)
    assert refs_of(pushing.ledger, pushing.repository) == {}
    assert pushing.commit().version == pushing.repository.version + 1


def test_who_waits_for_an_answer_hears_that_only_this_node_is_cut_off(pair: Pair, pushing: Pushing) -> None:
    with pushing.database.read() as tx:
        tx.row("SELECT 1")
    pair.primary.freeze()
    try:
        with ThreadPoolExecutor(1) as other:
            reading = other.submit(pushing.ledger.repository, pushing.repository.id)
            wait_until(lambda: bool(pushing.database.watch._waits), within_s=10)
            pushing.database.cut_off("only here")
            with pytest.raises(DatabaseCutOff):
                reading.result(timeout=BEGIN_S_MAX / 2)
    finally:
        pair.primary.thaw()
    pushing.database.cut_off(None)
    assert pushing.ledger.repository(pushing.repository.id).id == pushing.repository.id


def test_a_commit_is_not_cut_when_the_node_is_cut_off(
    pair: Pair, pushing: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outcome would be unknown for nothing: it is waited for, and told truly."""

    def commit_while_cut_off(connection: Connection) -> None:
        monkeypatch.setattr(postgresql, "commit", real_commit)
        pushing.database.cut_off("only here")
        real_commit(connection)
        pushing.database.cut_off(None)

    monkeypatch.setitem(
        failpoints._armed,
        "ledger.push_applied",
        once(lambda: monkeypatch.setattr(postgresql, "commit", commit_while_cut_off)),
    )
    pushing.assert_pushed_once(pushing.commit())
