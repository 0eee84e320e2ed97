"""Kill a server at its system calls between "pack received" and the answer, one call per run; and let the
disk fail at each of them.

First a push is watched, to learn the calls; then each call has a push of its own. `make crash` takes every
call, `make test` some: which ones, `MAINSTAY_CRASH_SEED` says. No push makes exactly the calls of the one
before, so a call that was learned may not come.
"""

import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from support.crash.history import History
from support.crash.syscalls import FAILING, Call, attached, calls_of, counted
from support.crash.trial import Outcome, begun, held_at
from support.crash.world import Transport, World
from support.crash.worlds import ALL, Worlds, everywhere, in_group

SEED = int(os.environ.get("MAINSTAY_CRASH_SEED", "1"))
_TRIALS_OF_A_PROJECT = 8
_SOME = 1
"""Calls of each gate that `make test` takes."""
_TRIES_MAX = 12
"""And how many, until one of them has come."""

_NETWORK = {"connect", "sendto", "sendmsg", "writev", "write"}


def gates(store: str) -> list[str]:
    """The event loop, the thread of the commit, and those that store the four objects of a push.

    A cloud store works in threads of its own: they are watched all together.
    """
    return ["received", "commit", *([f"put:{n}" for n in (1, 2, 3, 4)] if store == "directory" else ["all"])]


def gates_with_a_disk(store: str) -> list[str]:
    """The event loop and the network have none."""
    return [gate for gate in gates(store) if gate not in ("received", "all")] if store == "directory" else []


def run(world: World, history: History, gate: str, **what: Any) -> Outcome:
    """One push with strace on the thread at the gate, or on all threads when the gate is `all`."""

    def hands(thread: int) -> AbstractContextManager[None]:
        trace = counted if "found" in what else attached
        return trace(thread, all_of=world.running().pid if gate == "all" else 0, **what)

    deadly = "SIGKILL" in what.get("injection", "")
    return held_at(world, history, "commit" if gate == "all" else gate, hands, deadly=deadly)


def trials(world: World, gate: str, injections: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Outcome]]:
    """One push each, a few per project: to judge a long history takes longer."""
    history = begun(world)
    for number, (name, injection) in enumerate(injections, 1):
        if number % _TRIALS_OF_A_PROJECT == 0:
            history = begun(world)
        yield name, run(world, history, gate, injection=injection)


def learn(world: World, history: History, gate: str) -> list[Call]:
    """The calls of a push that goes well."""
    found: Counter[str] = Counter()
    outcome = run(world, history, gate, found=found)
    assert outcome.findings == []
    assert set((outcome.report or {}).values()) == {"ok"}
    if gate == "all":
        found = Counter({name: count for name, count in found.items() if name in _NETWORK})
    assert found, f"no system call after {gate}: is it a gate?"
    return calls_of(found)


def chosen(calls: list[Call], gate: str) -> list[Call]:
    """All; in a short run some, and behind them the others, the likeliest to come first."""
    if ALL or len(calls) <= _SOME:
        return calls
    some = random.Random(f"{SEED} {gate}").sample(calls, _SOME)
    return [*some, *sorted(set(calls) - set(some), key=lambda call: (call.number, call.name))]


def are_enough(outcomes: dict[str, Outcome]) -> bool:
    """For a short run."""
    has_died = any(each.died for each in outcomes.values())
    return not ALL and len(outcomes) >= (_SOME if has_died else _TRIES_MAX)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("storage", "transport", "gate"), everywhere(gates))
def test_a_kill_at_a_system_call_loses_nothing(
    worlds: Worlds, storage: str, transport: Transport, gate: str
) -> None:
    world = worlds.get(storage, transport)
    calls = chosen(learn(world, begun(world), gate), gate)
    outcomes: dict[str, Outcome] = {}
    for name, outcome in trials(world, gate, ((str(call), call.killing()) for call in calls)):
        outcomes[name] = outcome
        if are_enough(outcomes):
            break
    print(f"{sum(each.died for each in outcomes.values())} of {len(outcomes)} kills at {gate}")
    assert {name: each.findings for name, each in outcomes.items() if each.findings} == {}
    assert gate == "all" or any(each.died for each in outcomes.values())


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("storage", "transport", "gate"), everywhere(gates_with_a_disk))
def test_a_failing_disk_is_told_as_it_is(
    worlds: Worlds, storage: str, transport: Transport, gate: str
) -> None:
    world = worlds.get(storage, transport)
    calls = chosen([call for call in learn(world, begun(world), gate) if call.name in FAILING], gate)
    taken = calls if ALL else calls[:_SOME]
    outcomes = dict(trials(world, gate, ((str(call), call.failing()) for call in taken)))
    print(f"{len(taken)} failures at {gate}: { {name: each.report for name, each in outcomes.items()} }")
    assert {name: each.findings for name, each in outcomes.items() if each.findings} == {}


@pytest.mark.parametrize(
    "transport", [pytest.param(each, marks=in_group("sqlite-directory", each)) for each in ("http", "ssh")]
)
@pytest.mark.parametrize(
    ("call", "said"),
    [
        pytest.param(Call("fdatasync", 1), "nothing changed", id="the-database-cannot-begin"),
        pytest.param(Call("fdatasync", 2), "nothing changed", id="the-database-cannot-commit"),
        pytest.param(Call("fsync", 1), "ok", id="the-journal-cannot-follow"),
    ],
)
def test_a_disk_that_fails_is_named_to_the_pusher(
    worlds: Worlds, transport: Transport, call: Call, said: str
) -> None:
    world = worlds.get("sqlite-directory", transport)
    outcome = run(world, begun(world), "commit", injection=call.failing())
    assert outcome.findings == []
    assert all(each.endswith(said) for each in (outcome.report or {"nothing": "was reported"}).values())
