"""The arithmetic of the benchmarks: medians, ratios, promises."""

from types import SimpleNamespace

import pytest
from benchmarks.measure import Measurement, Promise, alternate
from benchmarks.processes import Process, without_git
from benchmarks.report import as_table

OURS, PEER = SimpleNamespace(name="Mainstay"), SimpleNamespace(name="nginx")


def measured(promise: Promise, *, ours: list[float], peer: list[float]) -> Measurement:
    measurement = Measurement("clone", "ms", promise=promise)
    for server, values in ((PEER, peer), (OURS, ours)):
        for value in values:
            measurement.add(server, value)
    return measurement


@pytest.mark.parametrize(("ours", "kept"), [([105.0, 100.0, 900.0], True), ([120.0, 115.0, 1.0], False)])
def test_a_promise_is_about_the_ratio_of_medians(ours: list[float], kept: bool) -> None:
    measurement = measured(Promise("within 1.1 times", at_most=1.1), ours=ours, peer=[100.0, 50.0, 200.0])
    assert measurement.is_kept is kept
    assert ("**no**" in as_table(SimpleNamespace(measurements=[measurement]))) is not kept


def test_without_a_peer_the_promise_is_about_our_own_number() -> None:
    memory = measured(Promise("at most 200 MiB", at_most=200), ours=[150.0], peer=[])
    assert memory.judged == 150.0
    assert memory.is_kept


def test_what_could_not_be_measured_is_neither_kept_nor_broken() -> None:
    measurement = Measurement("clone", "ms", promise=Promise("within 1.1 times", at_most=1.1))
    measurement.add(PEER, 3.0)
    measurement.add(OURS, None)
    assert measurement.is_kept is None
    assert "not measured" in as_table(SimpleNamespace(measurements=[measurement]))


def test_rounds_alternate_and_turn_around() -> None:
    seen: list[str] = []
    alternate([OURS, PEER], 2, lambda server: seen.append(server.name))
    assert seen == ["Mainstay", "nginx", "nginx", "Mainstay"]


def test_git_is_not_counted_as_the_servers_memory() -> None:
    processes = [
        Process(pid, 1, name, 10, 10) for pid, name in ((1, "mainstay"), (2, "git"), (3, "git-upload-pack"))
    ]
    assert [process.pid for process in without_git(processes)] == [1]
