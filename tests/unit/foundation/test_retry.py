"""Again, but not for ever."""

import pytest

from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.retry import Schedule, pauses_s, retry

FOUR_TIMES = Schedule(attempts_max=4, first_pause_s=1.0, pause_max_s=3.0)


def test_ceilings_double_up_to_the_longest() -> None:
    assert list(FOUR_TIMES.ceilings_s()) == [1.0, 2.0, 3.0]
    assert list(pauses_s(FOUR_TIMES, uniform=lambda: 0.5)) == [0.5, 1.0, 1.5]


def test_an_operation_that_recovers_returns_its_result() -> None:
    pauses: list[float] = []
    outcomes = iter([Unavailable("away"), Unavailable("away"), "done"])

    def operation() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    done = retry(operation, on=Unavailable, schedule=FOUR_TIMES, sleep=pauses.append, uniform=lambda: 1.0)
    assert (done, pauses) == ("done", [1.0, 2.0])


def test_the_last_failure_is_raised_as_it_is() -> None:
    calls = []

    def operation() -> None:
        calls.append(1)
        raise Unavailable(f"failure {len(calls)}")

    with pytest.raises(Unavailable, match="failure 4"):
        retry(operation, on=Unavailable, schedule=FOUR_TIMES, sleep=lambda _s: None)


def test_other_errors_are_not_waited_for() -> None:
    def operation() -> None:
        raise Conflict("moved")

    with pytest.raises(Conflict):
        retry(operation, on=Unavailable, schedule=FOUR_TIMES, sleep=lambda _s: pytest.fail("waited"))
