"""HAProxy and nginx on what `mainstay lb` prints, before nodes that show what reaches them."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mainstay.provision.balancers.description import Balancer
from support.balancers import FakeNode, Program, balancing
from support.ports import free_port
from support.servers import end, scratch_directory, wait_until

PROGRAMS: list[Program] = ["haproxy", "nginx"]


@dataclass
class Scene:
    nodes: list[FakeNode]
    balancer: Balancer
    configuration: Path

    def ask(self, path: str, *, headers: dict[str, str] | None = None, timeout_s: float = 10) -> Any:
        """What the node that answered has seen; the status when it is an error."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.balancer.http_port, timeout=timeout_s, source_address=("127.0.0.9", 0)
        )
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            body = answer.read()
            return json.loads(body) if answer.status == 200 else answer.status
        finally:
            connection.close()

    def node_of(self, path: str) -> str:
        seen = self.ask(path)
        return seen["node"] if isinstance(seen, dict) else f"status {seen}"

    def push(self, path: str) -> tuple[int, str]:
        """The status, and who answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.balancer.http_port, timeout=10)
        try:
            connection.putrequest("POST", path)
            connection.putheader("Content-Length", "6")
            connection.endheaders()
            connection.send(b"a pack")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def banner(self) -> str:
        with socket.create_connection(("127.0.0.1", self.balancer.ssh_port), timeout=10) as line:
            return line.makefile("rb").read().decode()


@contextmanager
def scene(kind: Program) -> Iterator[Scene]:
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory("mainstay-lb-"))
        nodes = [stack.enter_context(FakeNode(name)) for name in ("n1", "n2", "n3")]
        balancer = Balancer(
            nodes=tuple(node.described for node in nodes),
            listen=("127.0.0.1",),
            http_port=free_port(),
            ssh_port=free_port(),
            proxy_protocol="off",
            directory=str(directory),
        )
        configuration = stack.enter_context(balancing(balancer, kind, directory))
        yield Scene(nodes, balancer, configuration)


@pytest.fixture(params=PROGRAMS)
def both(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with scene(request.param) as made:
        yield made


@pytest.fixture
def haproxy() -> Iterator[Scene]:
    with scene("haproxy") as made:
        yield made


def wait_for(condition: Any, what: str, timeout_s: float = 40) -> None:
    wait_until(condition, timeout_s=timeout_s, what=what)


def test_all_about_one_repository_goes_to_one_node_and_repositories_spread(both: Scene) -> None:
    forms = [
        "/team/{0}.git/info/refs?service=git-upload-pack",
        "/team/{0}.git/git-upload-pack",
        "/team/{0}/info/refs?service=git-receive-pack",
        "/team/{0}.git/info/lfs/objects/batch",
        "/team/{0}/-/tree/main/x.git/y",
        "/api/v4/projects/team%2F{0}/repository/tree?ref=main",
        "/api/v4/projects/team%2f{0}",
    ]

    def homes(name: str) -> set[str]:
        return {both.node_of(form.format(name)) for form in forms}

    # Waits, because a check that a busy machine answers late moves a repository for a moment.
    for name in ("engine", "docs", "web"):
        wait_for(lambda name=name: len(homes(name)) == 1, f"all about {name} goes to one node")
    wait_for(lambda: _shares(both) == {"n1", "n2", "n3"}, "repositories spread")
    wait_for(
        lambda: len({both.node_of(f"/api/v4/projects/7{rest}") for rest in ("", "/jobs")}) == 1, "a number"
    )
    wait_for(
        lambda: len({both.node_of("/") for _ in range(9)}) > 1, "what is about no repository goes around"
    )


def test_a_node_hears_who_the_client_is_from_the_balancer_only(both: Scene) -> None:
    lies = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.test",
        "X-Real-IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X-Request-Id": "mine",
    }
    headers = both.ask("/team/engine.git/info/refs", headers=lies)["headers"]
    seen = {name: [value for each, value in headers if each == name] for name, _ in headers}
    assert seen["x-forwarded-for"] == ["127.0.0.9"]
    assert seen["x-forwarded-proto"] == ["http"]
    assert seen["x-forwarded-host"] == seen["host"] == [f"127.0.0.1:{both.balancer.http_port}"]
    assert "x-real-ip" not in seen
    assert "forwarded" not in seen
    assert seen["x-request-id"] != ["mine"]


def test_paths_arrive_as_they_were_written(both: Scene) -> None:
    path = "/api/v4/projects/team%2Fengine/repository/files/a%2Fb%20c?ref=x%2Fy"
    assert both.ask(path)["path"] == path


def test_bodies_answers_and_websockets_are_not_held_back(both: Scene) -> None:
    with socket.create_connection(("127.0.0.1", both.balancer.http_port), timeout=20) as line:
        line.sendall(
            b"POST /team/engine.git/git-receive-pack HTTP/1.1\r\nHost: x\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        )
        wait_for(lambda: any(node.bodies for node in both.nodes), "the first piece of a body arrives")
        line.sendall(b"5\r\nother\r\n0\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 200")
    with socket.create_connection(("127.0.0.1", both.balancer.http_port), timeout=20) as line:
        line.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while not got.endswith(b"first"):
            got += line.recv(1000)
        for node in both.nodes:
            node.go_on.set()
        assert line.recv(100) == b"other"
    with socket.create_connection(("127.0.0.1", both.balancer.http_port), timeout=20) as line:
        line.sendall(b"GET /cable HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
        line.sendall(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        got = b""
        while b"\r\n\r\n" not in got:
            got += line.recv(1000)
        assert got.startswith(b"HTTP/1.1 101")
        line.sendall(b"ping")
        assert line.recv(10) == b"ping"


def test_after_the_death_of_a_node_the_next_request_is_answered_at_once(both: Scene) -> None:
    path = "/team/engine.git/info/refs"
    home = both.node_of(path)
    next(node for node in both.nodes if node.name == home).die()
    started_s = time.monotonic()
    assert both.node_of(path) in {"n1", "n2", "n3"} - {home}
    assert both.banner() in {"n1", "n2", "n3"} - {home}
    assert time.monotonic() - started_s < 10  # a tenth of a second, and a machine that has other work


def test_who_alone_is_without_the_database_is_not_asked_for_long(both: Scene) -> None:
    """By 502 it says that it did nothing. What else goes wrong at a node is no reason to ask all others."""
    path = "/team/engine.git/info/refs"
    home = next(node for node in both.nodes if node.name == both.node_of(path))
    home.status = 502
    assert both.node_of(path) in {"n1", "n2", "n3"} - {home.name}
    home.status = 503
    wait_for(lambda: both.node_of(path) == "status 503", "its own refusal is passed on")


def test_a_small_push_is_asked_of_another_node_where_nothing_happened(haproxy: Scene) -> None:
    home = next(node for node in haproxy.nodes if node.name == haproxy.node_of("/team/engine.git/info/refs"))
    assert haproxy.push("/team/engine.git/git-receive-pack") == (200, home.name)
    home.status = 502
    status, name = haproxy.push("/team/engine.git/git-receive-pack")
    assert (status, name != home.name) == (200, True)
    home.status = 503
    assert haproxy.push("/team/engine.git/git-receive-pack")[0] == 503


def test_a_drain_turns_new_connections_away_and_cuts_nobody(haproxy: Scene) -> None:
    drained = haproxy.nodes[0]
    line = _stream_through(haproxy, drained)
    drained.readiness = 503
    wait_for(lambda: _shares(haproxy) <= {"n2", "n3"}, "a node that is not ready gets nothing new")
    wait_for(lambda: _banners(haproxy) <= {"n2", "n3"}, "for SSH neither")
    drained.go_on.set()
    assert line.recv(100) == b"other"
    line.close()
    drained.readiness = 200
    wait_for(lambda: _shares(haproxy) == {"n1", "n2", "n3"}, "a node that is ready again is back")
    wait_for(lambda: "n1" in _banners(haproxy), "for SSH, too")


def test_a_node_that_does_not_answer_is_left_out(haproxy: Scene) -> None:
    wait_for(lambda: _shares(haproxy) == {"n1", "n2", "n3"}, "all are there")
    haproxy.nodes[0].readiness = 0
    wait_for(lambda: _shares(haproxy) <= {"n2", "n3"}, "a frozen node is left out")
    wait_for(lambda: _banners(haproxy) <= {"n2", "n3"}, "for SSH, too")


def _banners(made: Scene) -> set[str]:
    """Who answers on the SSH port."""
    return {made.banner() for _ in range(6)}


def _shares(made: Scene) -> set[str]:
    """Who answers for many repositories."""
    return {made.node_of(f"/team/project{number}.git/info/refs") for number in range(12)}


def _stream_through(made: Scene, node: FakeNode) -> socket.socket:
    """An answer of `node` that has begun; asks until the balancer has chosen it."""
    for _ in range(300):
        line = socket.create_connection(("127.0.0.1", made.balancer.http_port), timeout=20)
        line.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while not got.endswith(b"first"):
            got += line.recv(1000)
        if node.streams:
            return line
        line.close()
    pytest.fail(f"the balancer never chose {node.name}")


def test_nginx_is_told_by_the_watch_which_nodes_rest(tmp_path: Path) -> None:
    with scene("nginx") as made:
        balancer, where = made.balancer, made.configuration
        command = [sys.executable, "-m", "mainstay", "lb", "watch", "--output", str(where)]
        command += ["--reload", f"nginx -c {where} -s reload", "--proxy-protocol", "off"]
        command += ["--listen", "127.0.0.1", "--http-port", str(balancer.http_port)]
        command += ["--ssh-port", str(balancer.ssh_port), "--directory", balancer.directory]
        for node in balancer.nodes:
            command += ["--node", f"{node.name}={node.at(node.http)}:{node.ssh}"]
        made.nodes[0].readiness = 503
        with (tmp_path / "watch.log").open("wb") as log:
            watch = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_for(lambda: _shares(made) == {"n2", "n3"}, "the watch takes a node out")
            wait_for(lambda: _banners(made) <= {"n2", "n3"}, "for SSH, too")
            made.nodes[0].readiness = 200
            wait_for(lambda: _shares(made) == {"n1", "n2", "n3"}, "and puts it back")
        finally:
            end(watch)
