"""The crash suite is able to fail: wrong write orders, run on purpose, are found by the same trials.

Each mistake lives in `support.crash.broken` and takes the place of the right code in the process under
test, before it serves. What no kill can show is a forgotten fsync: see there.
"""

from collections.abc import Callable, Iterator

import pytest

from support.crash.broken import BROKEN
from support.crash.checker import judge
from support.crash.history import Attempt, History
from support.crash.points import on_a_push
from support.crash.trial import Outcome, begun, fail_at, kill_at
from support.crash.world import World
from support.crash.worlds import Worlds
from support.raw_push import ZERO

pytestmark = pytest.mark.xdist_group("broken")


@pytest.fixture
def world(worlds: Worlds) -> Iterator[World]:
    """An instance of its own, because it will be damaged."""
    world = worlds.make("sqlite-directory", "http")
    yield world
    world.kill()


Trial = Callable[[World, History, str], Outcome]


def is_caught(world: World, broken: str, symptom: str, trial: Trial) -> bool:
    """Whether the trials of the suite, point after point, find what this mistake does."""
    for point in on_a_push("directory"):
        world.start()
        history = begun(world)
        world.start(broken=broken)
        if any(symptom in finding for finding in trial(world, history, point).findings):
            return True
    return False


@pytest.mark.parametrize(
    ("broken", "symptom", "trial"),
    [
        ("ledger_before_objects", "which is not stored", kill_at),
        ("answer_before_commit", "was acknowledged and is lost", kill_at),
        ("a_transaction_per_ref", "half a push", kill_at),
        ("no_intent", "orphan repositories/", kill_at),
        ("no_after_the_commit", "nothing changed) and has moved", fail_at),
    ],
)
def test_a_wrong_order_is_caught(world: World, broken: str, symptom: str, trial: Trial) -> None:
    assert is_caught(world, broken, symptom, trial)


def test_every_mistake_is_tried() -> None:
    (parameters,) = test_a_wrong_order_is_caught.pytestmark
    assert {each[0] for each in parameters.args[1]} == set(BROKEN)


@pytest.mark.parametrize(
    ("report", "now", "finding"),
    [
        (None, {"main": "1", "gone": "1"}, None),
        (None, {"main": "2", "new": "2"}, None),
        ({"main": "ok", "new": "ok", "gone": "ok"}, {"main": "2", "new": "2"}, None),
        (None, {"main": "2", "gone": "1"}, "half a push"),
        (None, {"main": "3", "gone": "1"}, "neither old nor new"),
        (None, {"main": "1", "gone": "1", "other": "9"}, "nobody asked"),
        ({"main": "ok", "new": "ok", "gone": "ok"}, {"main": "1", "gone": "1"}, "acknowledged and is lost"),
        ({"main": "busy", "new": "busy", "gone": "busy"}, {"main": "2", "new": "2"}, "refused (busy)"),
    ],
)
def test_the_judge_knows_right_from_wrong(
    report: dict[str, str] | None, now: dict[str, str], finding: str | None
) -> None:
    attempt = Attempt([("main", "1", "2"), ("new", ZERO, "2"), ("gone", "1", ZERO)], [])
    found = judge({"main": "1", "gone": "1"}, attempt, report, now)
    assert (found == []) if finding is None else any(finding in each for each in found)


def test_what_git_would_send_again_is_what_is_left() -> None:
    attempt = Attempt([("main", "1", "2"), ("new", ZERO, "2"), ("gone", "1", ZERO)], [])
    assert attempt.rebased_on({"main": "2", "new": "2"}).updates == []
    assert attempt.rebased_on({"main": "1", "gone": "1"}).updates == attempt.updates
    assert History("root/one").next_attempt().updates[0][1] == ZERO
