"""The decree of maintenance mode, on every kind of database, and the workers that heed it."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mainstay.boot.chores import CLASSES, FORGET_FAILURES, SWEEP, Chores, pauses
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Invalid
from mainstay.jobs import queue
from mainstay.jobs.classes import JobClass, class_of
from mainstay.jobs.worker import Worker
from mainstay.ops.maintenance import switch
from mainstay.ops.maintenance.lookout import Lookout
from mainstay.ops.maintenance.state import OPEN, BadException, Mode
from mainstay.ops.maintenance.switch import AlreadyOn, BadTime
from mainstay.storage.database import Database
from mainstay.storage.ledger.sql import SqlLedger

pytestmark = pytest.mark.timeout(60)


def turn_on(database: Database, **said: Any) -> switch.Seen:
    return switch.turn_on(database, **{"mode": Mode.READ_ONLY, "by": "ada", **said})


def test_on_and_off_are_seen_by_everybody(database: Database) -> None:
    assert switch.look(database).state == OPEN
    seen = turn_on(database, message="new disks", allow=["10.0.0.0/8"])
    assert (seen.state.mode, seen.state.message, seen.state.allow) == (
        Mode.READ_ONLY,
        "new disks",
        ("10.0.0.0/8",),
    )
    assert switch.look(database).state == seen.state
    assert abs(seen.now_ms - SYSTEM.now_ms()) < 60_000
    again = turn_on(database, mode=Mode.FULL)
    assert (again.state.mode, again.state.allow, again.state.message) == (Mode.FULL, (), "")
    assert again.state.starts_ms == seen.state.starts_ms, "it goes on"
    off = switch.turn_off(database, by="eve").state
    assert (off.mode, off.allow, off.by) == (Mode.OFF, (), "eve")
    assert switch.look(database).state == off


def test_a_schedule_is_in_the_future_and_off_forgets_it(database: Database) -> None:
    now_ms = switch.look(database).now_ms
    with pytest.raises(BadTime):
        turn_on(database, at_ms=now_ms - 1)
    seen = turn_on(database, at_ms=now_ms + 60_000)
    assert (seen.state.mode_at(now_ms), seen.state.is_announced_at(now_ms)) == (Mode.OFF, True)
    assert turn_on(database, at_ms=now_ms + 90_000).state.starts_ms == now_ms + 90_000
    assert switch.turn_off(database, by="ada").state.is_announced_at(now_ms) is False
    turn_on(database)
    with pytest.raises(AlreadyOn):
        turn_on(database, at_ms=now_ms + 60_000)
    with pytest.raises(BadException):
        turn_on(database, allow=["everybody"])
    assert switch.look(database).state.mode is Mode.READ_ONLY


def test_a_hold_and_a_mode_do_not_disturb_each_other(database: Database) -> None:
    turn_on(database, message="x")
    held = switch.hold(database, for_s=5)
    assert held.state.hold_until_ms == held.now_ms + 5_000
    assert held.state.mode is Mode.READ_ONLY
    assert switch.turn_off(database, by="ada").state.hold_until_ms == held.state.hold_until_ms
    assert switch.release(database).state.hold_until_ms is None
    assert switch.release(database).state.hold_until_ms is None
    for wrong in (0, 30.5, -1):
        with pytest.raises(Invalid):
            switch.hold(database, for_s=wrong)


def test_of_many_at_once_none_undoes_another(database: Database) -> None:
    together = threading.Barrier(3)

    def message() -> None:
        together.wait()
        for number in range(10):
            switch.set_message(database, f"message {number}")

    def mode() -> None:
        together.wait()
        for _ in range(10):
            turn_on(database, message=None)

    def holding() -> None:
        together.wait()
        for _ in range(10):
            switch.hold(database)

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(each) for each in (message, mode, holding)]:
            done.result()
    state = switch.look(database).state
    assert (state.mode, state.message, state.hold_until_ms is not None) == (
        Mode.READ_ONLY,
        "message 9",
        True,
    )


def test_workers_leave_what_can_wait_and_lose_nothing(database: Database) -> None:
    done: list[str] = []

    def work(name: str) -> Any:
        def do(_payload: Mapping[str, Any]) -> None:
            done.append(name)

        return do

    known = Lookout(lambda: switch.look(database), clock=SYSTEM)
    worker = Worker(
        database=database,
        ledger=SqlLedger(database, SYSTEM),
        handlers={name: work(name) for name in CLASSES},
        event_handlers={"push": {"maintain": work("event")}},
        clock=SYSTEM,
        is_paused=pauses(known),
    )
    names = [*CLASSES, "event:push:maintain"]
    with database.write() as tx:
        for name in names:
            queue.enqueue(tx, name, {}, run_at_ms=SYSTEM.now_ms())
    turn_on(database)
    known.turn()
    try:
        worker.run_once()
        assert sorted(done) == ["event", "journal.catch_up"]
        with database.read() as tx:
            assert queue.due_by_name(tx, now_ms=SYSTEM.now_ms())[SWEEP] == 1
        switch.turn_off(database, by="ada")
        known.turn()
        while len(done) < len(names) and worker.run_once():
            continue
        assert sorted(done) == sorted([*CLASSES, "event"])
    finally:
        worker.close()


def test_no_job_is_without_a_class(tmp_path: Path) -> None:
    settings = SimpleNamespace(data=tmp_path)
    stores: Any = SimpleNamespace(settings=settings, ledger=None)
    tools: Any = SimpleNamespace(scratch=tmp_path, copies=SimpleNamespace(mender=None))
    chores = Chores(stores, tools)
    assert set(chores.handlers) == set(CLASSES)
    assert {periodic.name for periodic in chores.periodics} <= set(CLASSES)
    assert class_of(FORGET_FAILURES, CLASSES) is JobClass.UPKEEP
    assert class_of("event:push:maintain", CLASSES) is JobClass.ESSENTIAL
    assert class_of("journal.catch_up", CLASSES) is JobClass.ESSENTIAL
    assert class_of("of.another.version", CLASSES) is JobClass.UPKEEP
