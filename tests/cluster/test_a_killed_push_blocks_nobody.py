"""A node that is killed or frozen between any two steps keeps no other node waiting longer than 5 s.

Two nodes on one PostgreSQL and one object store. One dies, or stops in the middle of a step, with all locks
it holds then; at once the other takes a push to the same ref, and a clone, which must both succeed at once.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest

from support.crash.history import MAIN, Attempt, History
from support.crash.neighbours import Neighbours, Report, Waited, is_held, two_nodes
from support.crash.nursery import Child
from support.crash.points import on_a_compaction, on_a_push
from support.crash.trial import begun
from support.crash.world import Transport, repository_id
from support.crash.worlds import Worlds
from support.long import only_long

Clusters = Callable[[str, Transport], Neighbours]
pytestmark = pytest.mark.timeout(300)

WAIT_S_MAX = 5.0
DIE_S_MAX = 20.0
STEPS_MAX = 30
TRANSACTIONS_MIN = 3
"""Of a first push: the project, the upload, the commit."""
ANSWER_S_MAX = 90.0
PACKS = 3
FATES = ["killed", "frozen"]
HERE = [("postgresql-directory", "http")]
"""What `make test` tries; `make long` tries the others, too."""
ELSEWHERE = [("postgresql-s3", "http"), ("postgresql-directory", "ssh")]


def cases(points_of: Callable[[str], Sequence[str]]) -> list[Any]:
    """Parameters `nodes` and what `points_of` the kind of store gives; nodes stay in one test process."""
    return [
        pytest.param(
            (storage, transport),
            point,
            marks=[pytest.mark.xdist_group(f"two-{storage}-{transport}"), *marks],
            id=f"{storage}-{transport}-{point}",
        )
        for setups, marks in ((HERE, []), (ELSEWHERE, [only_long]))
        for storage, transport in setups
        for point in points_of(storage.removeprefix("postgresql-"))
    ]


@pytest.fixture(scope="module")
def clusters(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    with ExitStack() as exits:
        made: dict[tuple[str, Transport], Neighbours] = {}

        def get(storage: str, transport: Transport) -> Neighbours:
            key = (storage, transport)
            if key not in made:
                directory = tmp_path_factory.mktemp("two")
                made[key] = exits.enter_context(two_nodes(worlds, storage, transport, directory))
            return made[key]

        yield get


@pytest.fixture
def nodes(request: pytest.FixtureRequest, clusters: Clusters) -> Neighbours:
    return clusters(*request.param)


def judge(waited: Waited, what: str) -> None:
    print(f"{what}: push {waited.push_s:.2f} s, clone {waited.clone_s:.2f} s")
    assert waited.longest_s <= WAIT_S_MAX, f"{what}: {waited}"


def packed(nodes: Neighbours) -> History:
    """A project with packs to compact, by a process in which nothing is armed any more."""
    nodes.a.kill()
    history = begun(nodes.a)
    pusher = nodes.a.pusher(history.path)
    for _ in range(PACKS):
        attempt = history.next_attempt()
        assert pusher.push(attempt.updates, attempt.objects) == {ref: "ok" for ref, _, _ in attempt.updates}
        history.refs = attempt.after(history.refs)
    pusher.close()
    return history


def number_of(nodes: Neighbours, path: str) -> str:
    with nodes.b.opened() as truth:
        return str(repository_id(truth, path))


# Killed


@pytest.mark.parametrize(("nodes", "point"), cases(on_a_push), indirect=["nodes"])
def test_killed_in_a_push(nodes: Neighbours, point: str) -> None:
    history = begun(nodes.a)
    nodes.a.running().ask("arm", f"{point}=kill")
    with nodes.pushing(history.next_attempt(), history.path):
        assert nodes.a.has_died(within_s=DIE_S_MAX), f"no push passes {point}"
        waited = nodes.use(history.path, f"a push killed at {point}")
    nodes.a.kill()
    judge(waited, point)


@pytest.mark.parametrize(("nodes", "how"), cases(lambda _kind: FATES), indirect=["nodes"])
def test_in_any_transaction_of_a_first_push(nodes: Neighbours, how: str) -> None:
    """All locks are held and nothing is committed; also while the push makes its project."""
    for step in range(1, STEPS_MAX):
        history = nodes.a.new_project()
        attempt = history.next_attempt()
        child = nodes.a.running()
        child.ask("gate", f"transaction:{step}")
        with nodes.pushing(attempt, history.path) as push:
            if not is_held(child, push):
                assert step > TRANSACTIONS_MIN, f"a first push has {step - 1} transactions"
                return
            child.die() if how == "killed" else child.freeze()
            waited = nodes.use(history.path, f"{how} in transaction {step} of a first push")
            if how == "frozen":
                wakes_up_to_the_truth(nodes, child, push, history.path, attempt)
        nodes.a.kill()
        judge(waited, f"transaction {step}")
    pytest.fail("a push has no end")


def wakes_up_to_the_truth(
    nodes: Neighbours, child: Child, push: Future[Report], path: str, attempt: Attempt
) -> None:
    """What was overtaken says so: `ok` for what is in the log, and for nothing else."""
    child.thaw()
    child.tell("go")
    report = push.result(ANSWER_S_MAX)
    (ours,) = [new for ref, _, new in attempt.updates if ref == MAIN]
    was_ours = ours in nodes.values_of_main(path)
    assert report is None or (report[MAIN] == "ok") == was_ours, report


@pytest.mark.parametrize(("nodes", "point"), cases(on_a_push), indirect=["nodes"])
@only_long
def test_frozen_in_a_push(nodes: Neighbours, point: str) -> None:
    history = begun(nodes.a)
    child = nodes.a.running()
    child.ask("gate", f"at:{point}")
    attempt = history.next_attempt()
    with nodes.pushing(attempt, history.path) as push:
        assert is_held(child, push), f"no push passes {point}"
        child.freeze()
        waited = nodes.use(history.path, f"a push frozen at {point}")
        wakes_up_to_the_truth(nodes, child, push, history.path, attempt)
    nodes.a.kill()
    judge(waited, point)


@pytest.mark.parametrize(("nodes", "point"), cases(on_a_compaction), indirect=["nodes"])
@only_long
def test_killed_in_a_compaction(nodes: Neighbours, point: str) -> None:
    history = packed(nodes)
    program = ["maintain", number_of(nodes, history.path), "merge", ""]
    environment = {**nodes.a.environment, "MAINSTAY_FAILPOINTS": f"{point}=kill"}
    code = nodes.a.nursery.run(program[0], environment, *program[1:])
    assert code == -9, f"no compaction passes {point}\n{nodes.a.nursery.log_end()}"
    judge(nodes.use(history.path, f"a compaction killed at {point}"), point)


@pytest.mark.parametrize(
    ("nodes", "work"),
    cases(lambda _kind: [f"{work} {how}" for work in ("maintain", "sweep") for how in FATES]),
    indirect=["nodes"],
)
def test_in_any_transaction_of_a_worker(nodes: Neighbours, work: str) -> None:
    """That compacts, or sweeps what a push left that died."""
    name, how = work.split()
    for step in range(1, STEPS_MAX):
        history = packed(nodes)
        if name == "sweep":
            leave_an_upload(nodes, history)
        worker = begun_worker(nodes, name, history.path, gate=f"transaction:{step}")
        is_at_gate = worker.hear() is not None
        if is_at_gate:
            worker.die() if how == "killed" else worker.freeze()
            judge(nodes.use(history.path, f"{work} in transaction {step}"), f"transaction {step}")
        worker.kill()
        if not is_at_gate:
            assert step > 1, f"no transaction in {name}"
            return
    pytest.fail(f"{name} has no end")


def begun_worker(nodes: Neighbours, name: str, path: str, *, gate: str) -> Child:
    arguments = [number_of(nodes, path), "merge", ""] if name == "maintain" else []
    return nodes.a.nursery.begin(name, {**nodes.a.environment, "MAINSTAY_CRASH_GATE": gate}, *arguments)


def leave_an_upload(nodes: Neighbours, history: History) -> None:
    nodes.a.running().ask("arm", "push.objects_stored=kill")
    with nodes.pushing(history.next_attempt(), history.path):
        assert nodes.a.has_died(within_s=DIE_S_MAX)
    nodes.a.kill()
