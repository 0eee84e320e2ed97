"""What the queue, the schedule and the worker promise, on every database."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import NotFound
from mainstay.jobs import overview, queue, schedule
from mainstay.jobs.queue import Job
from mainstay.jobs.schedule import Periodic
from mainstay.jobs.worker import Worker
from mainstay.storage.database import Database
from mainstay.storage.ledger.sql import SqlLedger
from support.ledgers import MAIN, a_push, a_repository, create

WAIT_S_MAX = 30


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Queue:
    """The functions of `queue`, each in a transaction of its own."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.database = database
        self.clock = clock

    def ask(self, name: str = "greet", *, in_s: int = 0, **fields: Any) -> None:
        with self.database.write() as tx:
            payload = fields.pop("payload", {})
            queue.enqueue(tx, name, payload, run_at_ms=self.clock.now_ms() + in_s * 1000, **fields)

    def take(self, owner: str = "w1", *, names: tuple[str, ...] = ("greet",), limit: int = 10) -> list[Job]:
        with self.database.write() as tx:
            return queue.take(
                tx, names=names, owner=owner, now_ms=self.clock.now_ms(), lease_s=60, limit=limit
            )

    def finish(self, job: Job, owner: str = "w1") -> bool:
        with self.database.write() as tx:
            return queue.finish(tx, job, owner=owner, now_ms=self.clock.now_ms())

    def fail(self, job: Job, owner: str = "w1") -> bool:
        with self.database.write() as tx:
            return queue.fail(tx, job, owner=owner, error="because", now_ms=self.clock.now_ms())

    def heartbeat(self, job: Job, owner: str) -> None:
        with self.database.write() as tx:
            queue.heartbeat(tx, [job.id], owner=owner, now_ms=self.clock.now_ms(), lease_s=60)

    def statistics(self) -> queue.Statistics:
        with self.database.read() as tx:
            return queue.statistics(tx)


@pytest.fixture
def jobs(database: Database, clock: ManualClock) -> Queue:
    return Queue(database, clock)


def test_a_job_is_taken_once_and_done(jobs: Queue) -> None:
    jobs.ask(payload={"to": "Ada"})
    [job] = jobs.take()
    assert (job.name, job.payload, job.attempts) == ("greet", {"to": "Ada"}, 1)
    assert jobs.take("w2") == []
    assert jobs.finish(job)
    assert jobs.statistics() == queue.Statistics(0, 0, 0, None)


def test_a_job_waits_for_its_time(jobs: Queue, clock: ManualClock) -> None:
    jobs.ask(in_s=10)
    assert jobs.take() == []
    clock.advance(10)
    assert len(jobs.take()) == 1


def test_a_job_asked_for_in_a_transaction_that_fails_is_not_there(
    jobs: Queue, database: Database, clock: ManualClock
) -> None:
    def ask_and_fail() -> None:
        with database.write() as tx:
            queue.enqueue(tx, "greet", {}, run_at_ms=clock.now_ms())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask_and_fail()
    assert jobs.take() == []


def test_a_worker_takes_only_what_it_knows(jobs: Queue) -> None:
    jobs.ask("greet")
    jobs.ask("unheard-of")
    assert [job.name for job in jobs.take()] == ["greet"]
    assert jobs.take(names=()) == []
    assert jobs.statistics().waiting == 1


def test_the_longest_due_is_taken_first(jobs: Queue, clock: ManualClock) -> None:
    for number in (3, 1, 2):
        jobs.ask(in_s=number, payload={"n": number})
    clock.advance(5)
    assert [jobs.take(limit=1)[0].payload["n"] for _ in range(3)] == [1, 2, 3]


def test_a_dead_workers_job_is_taken_over(jobs: Queue, clock: ManualClock) -> None:
    jobs.ask()
    [job] = jobs.take("w1")
    clock.advance(59)
    jobs.heartbeat(job, "w1")
    clock.advance(59)
    assert jobs.take("w2") == []
    clock.advance(1)
    [again] = jobs.take("w2")
    assert (again.id, again.attempts) == (job.id, 2)
    assert not jobs.finish(job, "w1"), "its lease is lost"
    jobs.heartbeat(job, "w1")
    assert not jobs.fail(job, "w1")
    assert jobs.statistics().running == 1
    assert jobs.finish(again, "w2")


def test_a_failed_job_waits_longer_each_time_and_dies_at_last(
    jobs: Queue, clock: ManualClock, database: Database
) -> None:
    jobs.ask(max_attempts=3, unique_key="k")
    for pause_s in (5, 10):
        [job] = jobs.take()
        assert not jobs.fail(job)
        clock.advance(pause_s - 0.1)
        assert jobs.take() == []
        clock.advance(0.1)
    [job] = jobs.take()
    assert jobs.fail(job)
    clock.advance(1_000_000)
    assert jobs.take() == []
    with database.read() as tx:
        [dead] = overview.listed(tx, "failed")
    assert (dead.id, dead.error, dead.attempts) == (job.id, "because", 3)
    jobs.ask(unique_key="k")
    assert jobs.statistics().waiting == 1, "a dead job does not stand in the way of the next request"
    with database.write() as tx:
        assert queue.revive(tx, dead.id, now_ms=clock.now_ms())
        assert not queue.revive(tx, dead.id, now_ms=clock.now_ms())
    assert len(jobs.take()) == 2


def test_an_operator_sees_every_state_and_revives_or_gives_up_what_failed(
    jobs: Queue, clock: ManualClock, database: Database
) -> None:
    for name in ("fails", "runs", "waits"):
        jobs.ask(name, max_attempts=1, payload={"of": name})
    [fails] = jobs.take(names=("fails",))
    assert jobs.fail(fails)
    [runs] = jobs.take("w2", names=("runs",))
    with database.read() as tx:
        states = {job.name: (job.state, job.worker, job.error) for job in overview.listed(tx)}
        waiting = overview.listed(tx, "waiting")
        assert len(overview.listed(tx, limit=2)) == 2
    assert states == {
        "fails": ("failed", None, "because"), "runs": ("running", "w2", ""), "waits": ("waiting", None, "")
    }  # fmt: skip
    assert [(job.name, job.payload) for job in waiting] == [("waits", {"of": "waits"})]

    with pytest.raises(NotFound, match="no job 999"), database.write() as tx:
        overview.revive(tx, [fails.id, 999], now_ms=clock.now_ms())
    with database.write() as tx:
        assert [job.state for job in overview.listed(tx, "failed")] == ["failed"], "one wrong id, no change"
        revived = overview.revive(tx, [fails.id, runs.id], now_ms=clock.now_ms())
    assert [(job.state, job.attempts) for job in revived] == [("waiting", 0), ("running", 1)]

    [fails] = jobs.take(names=("fails",))
    assert jobs.fail(fails)
    with database.write() as tx:
        assert [job.state for job in overview.forget(tx, [fails.id, runs.id])] == ["failed", "running"]
    with database.read() as tx:
        assert [job.name for job in overview.listed(tx)] == ["waits", "runs"]


def test_a_job_that_kills_every_worker_is_buried(jobs: Queue, clock: ManualClock) -> None:
    jobs.ask(max_attempts=2)
    for _ in range(2):
        assert len(jobs.take()) == 1
        clock.advance(60)
    assert jobs.take() == []
    assert jobs.statistics().dead == 1


def test_requests_of_one_key_meet_while_they_wait(jobs: Queue, clock: ManualClock) -> None:
    jobs.ask(unique_key="compact:7", in_s=60, payload={"first": True})
    jobs.ask(unique_key="compact:7", in_s=30)
    jobs.ask(unique_key="compact:7", in_s=90)
    jobs.ask(unique_key="compact:8", in_s=30)
    clock.advance(30)
    assert [job.payload for job in jobs.take()] == [{"first": True}, {}]


def test_a_request_while_the_job_runs_makes_it_run_once_more(jobs: Queue) -> None:
    jobs.ask(unique_key="compact:7")
    [job] = jobs.take()
    jobs.ask(unique_key="compact:7")
    jobs.ask(unique_key="compact:7")
    assert jobs.take() == [], "never two at a time"
    assert jobs.finish(job)
    [again] = jobs.take()
    assert again.attempts == 1
    assert jobs.finish(again)
    assert jobs.take() == []


def test_takers_in_many_threads_share_the_jobs(jobs: Queue) -> None:
    for _ in range(40):
        jobs.ask()

    def take_all(owner: str) -> list[int]:
        taken: list[int] = []
        while batch := jobs.take(owner, limit=3):
            taken += [job.id for job in batch]
        return taken

    with ThreadPoolExecutor(4) as threads:
        taken = [id_ for ids in threads.map(take_all, ["a", "b", "c", "d"]) for id_ in ids]
    assert len(taken) == len(set(taken)) == 40


# The schedule


def test_a_periodic_job_comes_again_after_each_end(
    jobs: Queue, database: Database, clock: ManualClock
) -> None:
    for _ in range(3):
        with database.write() as tx:
            schedule.ensure(tx, [Periodic(name="greet", every_s=100)], now_ms=clock.now_ms())
    [job] = jobs.take()
    clock.advance(10)
    assert jobs.finish(job)
    clock.advance(99)
    assert jobs.take() == []
    clock.advance(1)
    assert len(jobs.take()) == 1


def test_a_failing_periodic_job_never_dies(jobs: Queue, database: Database, clock: ManualClock) -> None:
    with database.write() as tx:
        schedule.ensure(tx, [Periodic(name="greet", every_s=1000)], now_ms=clock.now_ms())
    for pause_s in (5, 10, 1000, 5):
        [job] = jobs.take()
        assert not jobs.fail(job)
        clock.advance(pause_s - 0.1)
        assert jobs.take() == []
        clock.advance(0.1)
    assert len(jobs.take()) == 1


# The worker


@pytest.fixture
def make_worker(database: Database, clock: ManualClock) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(**fields: Any) -> Worker:
        ledger = SqlLedger(database, clock)
        defaults: dict[str, Any] = {"handlers": {}, "event_handlers": {}, "poll_s": 0.01}
        made.append(Worker(database=database, ledger=ledger, clock=clock, **{**defaults, **fields}))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


class Heard:
    """A handler that remembers, and fails as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.payloads: list[Mapping[str, Any]] = []
        self.failures = failures
        self.happened = threading.Event()

    def __call__(self, payload: Mapping[str, Any]) -> None:
        self.payloads.append(payload)
        self.happened.set()
        if len(self.payloads) <= self.failures:
            raise ZeroDivisionError("on purpose")


def test_a_worker_hears_of_pushes(
    database: Database, clock: ManualClock, make_worker: Callable[..., Worker]
) -> None:
    ledger, heard = SqlLedger(database, clock), Heard()
    repository = a_repository(ledger)
    push = a_push(repository, create(MAIN))
    ledger.push(push)
    worker = make_worker(event_handlers={"push": {"hear": heard}})
    assert worker.run_once() == 1
    assert heard.payloads == [{"repository_id": repository.id, "version": 2, "push_id": push.push_id}]
    clock.advance(1000)
    assert worker.run_once() == 0


def test_one_failing_handler_is_retried_without_the_others(
    database: Database, clock: ManualClock, make_worker: Callable[..., Worker]
) -> None:
    good, bad = Heard(), Heard(failures=2)
    SqlLedger(database, clock).add_event("greeting", {"to": "Ada"})
    worker = make_worker(event_handlers={"greeting": {"good": good, "bad": bad}})
    assert worker.run_once() == 1
    for _ in range(2):
        clock.advance(10)
        assert worker.run_once() == 1
    clock.advance(1000)
    assert worker.run_once() == 0
    assert (len(good.payloads), bad.payloads) == (1, [{"to": "Ada"}] * 3)


def test_a_worker_that_dies_after_it_delivered_is_followed_by_one_that_delivers_the_same(
    database: Database,
    clock: ManualClock,
    make_worker: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At least once: whoever hears it twice knows it by what it says, such as the id of a push."""
    ledger, heard = SqlLedger(database, clock), Heard()
    push = a_push(a_repository(ledger), create(MAIN))
    ledger.push(push)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SqlLedger, "finish_events", die)
        with pytest.raises(KeyboardInterrupt):
            make_worker(event_handlers={"push": {"hear": heard}}).run_once()
    other = make_worker(event_handlers={"push": {"hear": heard}})
    assert other.run_once() == 0, "the dead worker's lease still runs"
    clock.advance(120)
    assert other.run_once() == 1
    assert other.run_once() == 0
    assert [each["push_id"] for each in heard.payloads] == [push.push_id] * 2


def test_an_unknown_topic_is_left_for_a_newer_node(
    database: Database, clock: ManualClock, make_worker: Callable[..., Worker]
) -> None:
    SqlLedger(database, clock).add_event("news", {})
    assert make_worker(event_handlers={}).run_once() == 0
    clock.advance(60)
    heard = Heard()
    assert make_worker(event_handlers={"news": {"hear": heard}}).run_once() == 1
    assert heard.payloads == [{}]


def test_a_worker_does_jobs_and_retries_them(
    jobs: Queue, clock: ManualClock, make_worker: Callable[..., Worker]
) -> None:
    heard, ended = Heard(failures=1), Heard()
    jobs.ask(payload={"to": "Ada"})
    worker = make_worker(handlers={"greet": heard}, after_each=lambda: ended({}))
    assert worker.run_once() == 1
    assert worker.run_once() == 0
    clock.advance(5)
    assert worker.run_once() == 1
    assert heard.payloads == [{"to": "Ada"}] * 2
    assert len(ended.payloads) == 2
    assert jobs.statistics() == queue.Statistics(0, 0, 0, None)


def test_a_worker_keeps_its_schedule(clock: ManualClock, make_worker: Callable[..., Worker]) -> None:
    heard = Heard()
    worker = make_worker(
        handlers={"sweep": heard}, periodics=[Periodic(name="sweep", every_s=60, payload={"a": 1})]
    )
    assert [worker.run_once() for _ in range(2)] == [1, 0]
    clock.advance(60)
    assert worker.run_once() == 1
    assert heard.payloads == [{"a": 1}] * 2


def test_a_running_worker_stops_when_it_is_told_and_finishes_what_it_began(
    jobs: Queue, make_worker: Callable[..., Worker]
) -> None:
    begun, may_end, stop = threading.Event(), threading.Event(), threading.Event()

    def slow(_payload: Mapping[str, Any]) -> None:
        begun.set()
        assert may_end.wait(WAIT_S_MAX)

    jobs.ask()
    worker = make_worker(handlers={"greet": slow})
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    assert begun.wait(WAIT_S_MAX)
    stop.set()
    may_end.set()
    thread.join(WAIT_S_MAX)
    assert not thread.is_alive()
    assert jobs.statistics() == queue.Statistics(0, 0, 0, None), "what had begun is done and recorded"
    jobs.ask()
    assert jobs.statistics().waiting == 1, "and nothing is begun any more"


def test_events_pass_by_jobs_that_take_long(
    jobs: Queue, database: Database, clock: ManualClock, make_worker: Callable[..., Worker]
) -> None:
    heard, may_end, stop = Heard(), threading.Event(), threading.Event()
    for _ in range(4):
        jobs.ask()
    worker = make_worker(
        handlers={"greet": lambda _payload: may_end.wait(WAIT_S_MAX) and None},
        event_handlers={"news": {"hear": heard}},
        threads_max=2,
    )
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    SqlLedger(database, clock).add_event("news", {})
    assert heard.happened.wait(WAIT_S_MAX)
    may_end.set()
    stop.set()
    thread.join(WAIT_S_MAX)
    assert not thread.is_alive()
