"""Kill a worker while it compacts: no ref and no object is lost, and the next compaction does the work."""

from collections.abc import Iterator

import pytest

from mainstay.git.packs import PackIndex
from support.crash.checker import violations
from support.crash.history import Attempt, History
from support.crash.points import on_a_compaction
from support.crash.trial import begun
from support.crash.world import World, repository_id
from support.crash.worlds import ALL, STORAGES, Worlds

_PUSHES = 4
_NOTHING = Attempt([], [])


@pytest.fixture(
    params=[pytest.param(each, marks=pytest.mark.xdist_group(f"{each}-http")) for each in STORAGES]
)
def world(request: pytest.FixtureRequest, worlds: Worlds) -> Iterator[World]:
    world = worlds.get(request.param, "http")
    yield world
    world.kill()


def pushed(world: World) -> History:
    """A project of several packs, among them objects that no ref leads to any more."""
    history = begun(world)
    pusher = world.pusher(history.path)
    for _ in range(_PUSHES):
        attempt = history.next_attempt()
        assert pusher.push(attempt.updates, attempt.objects) == {ref: "ok" for ref, _, _ in attempt.updates}
        history.refs = attempt.after(history.refs)
    pusher.close()
    assert violations(world, history, _NOTHING, None) == []
    return history


def packs_of(world: World, history: History) -> list[str]:
    """The kinds of the packs in the manifest."""
    with world.opened() as truth:
        number = repository_id(truth, history.path)
        assert number is not None
        return [pack.kind for pack in truth.ledger.packs(number)[2]]


def objects_of(world: World, history: History) -> set[str]:
    """All objects of the manifest's packs, those that no ref leads to included."""
    with world.opened() as truth:
        number = repository_id(truth, history.path)
        assert number is not None
        packs = truth.ledger.packs(number)[2]
        indexes = [PackIndex(truth.objects.get_bytes(f"{pack.key}.idx")) for pack in packs]
    return {oid for index in indexes for oid in index.oids()}


def maintain(world: World, history: History, how: str, *, failpoints: str = "", packing: str = "") -> int:
    """One step of compaction in a process of its own; its exit code."""
    with world.opened() as truth:
        number = repository_id(truth, history.path)
    environment = {**world.environment, "MAINSTAY_FAILPOINTS": failpoints}
    return world.nursery.run("maintain", environment, str(number), how, packing)


def points(world: World, *, turn: int) -> list[str]:
    """In a short run every second one."""
    found = on_a_compaction(STORAGES[world.data.name.rpartition("-http-")[0]])
    return found if ALL else found[turn::2]


@pytest.mark.parametrize(("turn", "how", "result"), [(0, "merge", "compact"), (1, "rebase", "base")])
def test_a_killed_compaction_loses_nothing_and_the_next_one_works(
    world: World, turn: int, how: str, result: str
) -> None:
    history = pushed(world)
    packs, objects = packs_of(world, history), objects_of(world, history)
    assert len(packs) == _PUSHES + 1
    for point in points(world, turn=turn):
        code = maintain(world, history, how, failpoints=f"{point}=kill")
        assert code == -9, f"{how} does not pass {point}"
        assert violations(world, history, _NOTHING, None) == []
        if result in packs_of(world, history):
            assert point == "swap.committed"
            assert objects_of(world, history) == objects
            history = pushed(world)
            objects = objects_of(world, history)
    assert maintain(world, history, how) == 0
    assert packs_of(world, history) == [result]
    assert objects_of(world, history) == objects
    assert violations(world, history, _NOTHING, None) == []


def test_a_worker_that_dies_while_git_packs_leaves_all_as_it_was(world: World) -> None:
    history = pushed(world)
    before = packs_of(world, history)
    assert maintain(world, history, "merge", packing="die") == -9
    assert violations(world, history, _NOTHING, None) == []
    assert packs_of(world, history) == before
    assert maintain(world, history, "merge") == 0
    assert packs_of(world, history) == ["compact"]


def test_pushes_go_on_after_a_swap_that_nobody_heard_of(world: World) -> None:
    history = pushed(world)
    assert maintain(world, history, "rebase", failpoints="swap.committed=kill") == -9
    attempt = history.next_attempt()
    pusher = world.pusher(history.path)
    report = pusher.push(attempt.updates, attempt.objects)
    pusher.close()
    assert report == {ref: "ok" for ref, _, _ in attempt.updates}
    assert violations(world, history, attempt, report) == []


def test_an_error_in_a_compaction_loses_nothing(world: World) -> None:
    history = pushed(world)
    objects = objects_of(world, history)
    for point in points(world, turn=1):
        maintain(world, history, "merge", failpoints=f"{point}=error")
        assert violations(world, history, _NOTHING, None) == []
        assert objects_of(world, history) == objects
