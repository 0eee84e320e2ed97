"""Requests that wait for the database: how long, how many, and what they leave to others."""

import asyncio

import pytest

from mainstay.foundation.errors import Unavailable
from mainstay.repository.holding import Waiting
from mainstay.storage.database import DatabaseAway, DatabaseCutOff
from mainstay.storage.hold import Hold, Patience, next_pause_s, reason_to_stop


class Flaky:
    """Away for the first `failures` calls."""

    def __init__(self, failures: int, error: type[Exception] = DatabaseAway) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error("away")
        return self.calls

    async def later(self) -> int:
        return self()


def test_pauses_grow_and_the_last_one_ends_with_the_hold() -> None:
    assert next_pause_s(1, held_s=0, hold_s=60, jitter=0) == pytest.approx(0.05)
    assert next_pause_s(50, held_s=10, hold_s=60, jitter=0.999) == pytest.approx(1.0, abs=0.01)
    assert next_pause_s(9, held_s=59.9, hold_s=60, jitter=0.5) == pytest.approx(0.1)
    assert next_pause_s(9, held_s=60, hold_s=60, jitter=0.5) is None
    assert next_pause_s(1, held_s=0, hold_s=0, jitter=0.5) is None


def test_patience_runs_from_the_first_failure() -> None:
    now_s = [1000.0]
    patience = Patience(10, lambda: now_s[0])
    assert patience.after_failure(DatabaseAway("x")) is not None
    now_s[0] = 1009.9
    assert patience.after_failure(DatabaseAway("x")) is not None
    now_s[0] = 1010.0
    assert patience.after_failure(DatabaseAway("x")) is None


def test_a_hold_repeats_what_may_be_repeated_and_nothing_else() -> None:
    slept: list[float] = []
    hold = Hold(60, sleep=slept.append)
    assert hold.through(Flaky(3)) == 4
    assert len(slept) == 3
    other = Flaky(1, Unavailable)
    with pytest.raises(Unavailable):
        hold.through(other)
    assert other.calls == 1


def test_without_a_hold_a_failure_is_one() -> None:
    flaky = Flaky(1)
    with pytest.raises(DatabaseAway):
        Hold().through(flaky)
    assert flaky.calls == 1


def test_a_request_waits_until_the_database_is_back() -> None:
    assert asyncio.run(Waiting(hold_s=5, waiting_max=1).through(Flaky(2).later)) == 3


def test_more_than_may_wait_are_refused_at_once() -> None:
    async def crowd() -> list[object]:
        waiting = Waiting(hold_s=5, waiting_max=2)
        return await asyncio.gather(
            *(waiting.through(Flaky(1).later) for _ in range(5)), return_exceptions=True
        )

    answers = asyncio.run(crowd())
    assert sum(isinstance(answer, DatabaseAway) for answer in answers) == 3
    assert sum(answer == 2 for answer in answers) == 2


def test_a_place_is_free_again_after_a_wait_however_it_ended() -> None:
    async def one_after_the_other() -> None:
        waiting = Waiting(hold_s=0.05, waiting_max=1)
        for _ in range(3):
            with pytest.raises(DatabaseAway):
                await waiting.through(Flaky(1000).later)
        cancelled = asyncio.create_task(Waiting.through(waiting, Flaky(1000).later))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert await waiting.through(Flaky(0).later) == 1
        assert await waiting.through(Flaky(1).later) == 2

    asyncio.run(one_after_the_other())


def test_nobody_waits_where_another_node_would_do() -> None:
    elsewhere = DatabaseCutOff("the database answers b but not this node")
    assert reason_to_stop(elsewhere, held_s=0, hold_s=60, may_leave=True)
    assert reason_to_stop(DatabaseAway("away"), held_s=0, hold_s=60, may_leave=True) is None
    assert reason_to_stop(DatabaseAway("away"), held_s=60, hold_s=60, may_leave=True)


def test_who_may_have_committed_waits_where_he_is() -> None:
    elsewhere = DatabaseCutOff("the database answers b but not this node")
    assert reason_to_stop(elsewhere, held_s=59, hold_s=60, may_leave=False) is None
    assert reason_to_stop(elsewhere, held_s=60, hold_s=60, may_leave=False)


def test_a_request_is_given_up_as_soon_as_another_node_would_do() -> None:
    waiting = Waiting(hold_s=60, waiting_max=1)
    attempts = iter([DatabaseAway("away"), DatabaseCutOff("only here")])

    async def attempt() -> None:
        raise next(attempts)

    with pytest.raises(DatabaseCutOff):
        asyncio.run(waiting.through(attempt))
    assert next(attempts, None) is None
