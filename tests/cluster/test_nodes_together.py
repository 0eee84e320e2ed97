"""Two nodes as their operator sees them: the list, drains, deaths, and a restart of one after the other."""

import contextlib
import json
import os
import signal
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from support.node import Node
from support.pair import Pair
from support.people import Person
from support.servers import wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("pair")]

DEAD_S_MAX = 20.0
CHECK_EVERY_S = 0.5


def is_running(node: Node) -> bool:
    with contextlib.suppress(OSError):
        return node.get("/-/readiness")[0] == 200
    return False


def status(node: Node) -> tuple[int, dict[str, Any]]:
    done = node.run("status", "--json", check=False)
    return done.returncode, json.loads(done.stdout)


def states(node: Node) -> dict[str, str]:
    return {each["name"]: each["state"] for each in status(node)[1]["nodes"]}


def wait_until_well(node: Node) -> None:
    wait_until(lambda: status(node)[0] == 0, timeout_s=30, what="all is well")


def test_everybody_is_on_the_list_with_what_they_do(pair: Pair, ada: Person) -> None:
    wait_until_well(pair.a.node)
    code, shown = status(pair.b.node)
    assert (code, shown["verdict"], shown["problems"]) == (0, "ok", [])
    assert [node["name"] for node in shown["nodes"]] == ["a", "b"]
    first = shown["nodes"][0]
    assert first["http"] == f"127.0.0.1:{pair.a.node.http_port}"
    assert first["ssh"] == f"127.0.0.1:{pair.a.node.ssh_port}"
    assert first["roles"] == ["git", "ssh", "web", "worker"]
    assert first["heartbeat_age_ms"] < 10_000
    facts = [node["facts"] for node in shown["nodes"]]
    assert facts[0]["secrets"] == facts[1]["secrets"], "so that a node with other secrets is found"
    assert facts[0]["processes"]["worker"]["restarts"] == 0
    assert shown["dependencies"]["database"]["kind"] == "postgresql"
    assert "a" in pair.a.node.run("status").stdout


def test_the_api_tells_administrators_only(pair: Pair, ada: Person) -> None:
    assert ada.api("GET", "cluster/nodes").status == 403
    assert pair.a.node.get("/api/v4/cluster/nodes")[0] == 401
    headers = {"PRIVATE-TOKEN": pair.a.node.token()}
    code, body = pair.b.node.get("/api/v4/cluster/nodes", headers=headers)
    assert code == 200
    assert {node["name"] for node in json.loads(body)["nodes"]} == {"a", "b"}
    assert ada.api("GET", "cluster/sites").status == 403
    assert pair.b.node.get("/api/v4/cluster/sites", headers=headers)[0] == 404, "there are no other sites"
    metrics = pair.a.node.get("/-/metrics")[1].decode()
    assert 'mainstay_cluster_nodes{state="ready"} 2.0' in metrics


def readiness_until_gone(node: Node) -> list[int]:
    seen = []
    while True:
        try:
            seen.append(node.get("/-/readiness")[0])
        except OSError:
            return seen
        time.sleep(0.1)


def test_a_frozen_node_is_dead_until_it_thaws(pair: Pair) -> None:
    wait_until_well(pair.a.node)
    data = pair.b.node.pids()["data"]
    os.kill(data, signal.SIGSTOP)
    try:
        wait_until(lambda: states(pair.a.node)["b"] == "dead", timeout_s=DEAD_S_MAX, what="b counts as dead")
    finally:
        os.kill(data, signal.SIGCONT)
    wait_until(lambda: states(pair.a.node)["b"] == "ready", timeout_s=30, what="b beats again")


@dataclass
class Balancer:
    """Sends each operation to a node that was ready at the last check, as a real one would."""

    nodes: list[Node]
    ready: list[Node] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def check_until_stopped(self) -> None:
        while not self.stopping.is_set():
            self.ready = [node for node in self.nodes if is_running(node)] or self.ready
            self.stopping.wait(CHECK_EVERY_S)


@dataclass
class Load:
    """One person who fetches and pushes without a pause."""

    person: Person
    balancer: Balancer
    path: str
    over_ssh: bool
    done: int = 0
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        git, work = self.person.git, self.person.git.home / self.path.replace("/", "-")
        git.repository(work)
        while not self.balancer.stopping.is_set():
            node = self.balancer.ready[self.done % len(self.balancer.ready)]
            here = replace(self.person, node=node)
            url = here.ssh_url(self.path) if self.over_ssh else here.url(self.path)
            git.commit(work, "counter", f"{self.done}\n")
            for operation in (["push", "-q", url, "main"], ["ls-remote", url]):
                outcome = git.try_(*operation, cwd=work)
                self.done += 1
                if not outcome:
                    self.failures.append(f"{operation[0]} at {node.data.name}: {outcome.err}")


def test_nodes_restarted_one_after_the_other_fail_no_operation(pair: Pair, ada: Person) -> None:
    """One is told by a signal, the other by a command at its neighbour."""
    wait_until_well(pair.a.node)
    balancer = Balancer([pair.a.node, pair.b.node])
    balancer.ready = list(balancer.nodes)
    seen: list[int] = []
    loads = [Load(ada, balancer, f"ada/load-{kind}", over_ssh=kind == "ssh") for kind in ("http", "ssh")]
    threads = [threading.Thread(target=balancer.check_until_stopped)]
    threads += [threading.Thread(target=load.run) for load in loads]
    for thread in threads:
        thread.start()
    try:
        assert pair.a.node.stop(within_s=60) == 0
        pair.a.node.start()
        wait_until(lambda: states(pair.b.node)["a"] == "ready", timeout_s=30, what="a is back")
        watching = threading.Thread(target=lambda: seen.extend(readiness_until_gone(pair.b.node)))
        watching.start()
        drained = pair.a.node.run("node", "drain", "b", "--wait", "60", "--json")
        assert json.loads(drained.stdout)["state"] == "stopped"
        assert pair.b.node.wait_until_ended(within_s=30) == 0
        watching.join()
        assert 503 in seen, "it said so before it went"
        assert states(pair.a.node) == {"a": "ready", "b": "stopped"}
        assert status(pair.a.node)[0] == 0, "who stopped in order is missed by nobody"
        pair.b.node.start()
    finally:
        balancer.stopping.set()
        for thread in threads:
            thread.join()
    assert [failure for load in loads for failure in load.failures] == []
    assert all(load.done >= 10 for load in loads), [load.done for load in loads]
    print(f"{sum(load.done for load in loads)} operations, none failed")


def test_a_killed_node_is_dead_to_the_others_soon_and_can_be_forgotten(pair: Pair) -> None:
    """The last test of the group: what is dead stays dead."""
    wait_until_well(pair.a.node)
    pair.b.node.kill()
    wait_until(lambda: states(pair.a.node)["b"] == "dead", timeout_s=DEAD_S_MAX, what="b counts as dead")
    code, shown = status(pair.a.node)
    assert code == 1
    assert any(problem.startswith("node b is dead") for problem in shown["problems"])
    assert pair.a.node.run("node", "forget", "a", check=False).returncode == 5, "it lives"
    pair.a.node.run("node", "forget", "b")
    assert states(pair.a.node) == {"a": "ready"}
