"""Clients that send slowly, stop, or vanish: cut after a while, cleaned up after, and in nobody's way."""

import os
import random
import signal
import socket
import struct
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from support.aftermath import check_unharmed, standing_of
from support.node import Node
from support.people import Person, person
from support.process_tree import git_children, open_files, wait_until_quiet
from support.raw_http import commands
from support.raw_push import ZERO, blob, pack_of, pkt

IDLE_S = 2
CUT_S_MAX = 20.0

Open = Callable[[int], socket.socket]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    environment = {"MAINSTAY_HTTP_IDLE_SECONDS": str(IDLE_S), "MAINSTAY_SSH_IDLE_SECONDS": str(IDLE_S)}
    with Node(tmp_path_factory.mktemp("slow") / "data", environment=environment) as node:
        yield node


@pytest.fixture(scope="module")
def ada(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return person(node, tmp_path_factory.mktemp("ada"), "ada")


@pytest.fixture(scope="module")
def path(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> str:
    work = ada.git.repository(tmp_path_factory.mktemp("work") / "work")
    ada.git("push", "--quiet", ada.url("ada/target"), "main", cwd=work)
    return "ada/target"


@pytest.fixture
def connect() -> Iterator[Open]:
    with ExitStack() as stack:

        def connection(port: int) -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=CUT_S_MAX))

        yield connection


def head(ada: Person, path: str, service: str, *, length: int) -> bytes:
    pair = b64encode(f"ada:{ada.password}".encode()).decode()
    return (
        f"POST /{path}.git/{service} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Basic {pair}\r\n"
        f"Content-Type: application/x-{service}-request\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def half_a_push() -> bytes:
    """The commands, and half of a pack that is long enough for git to be at work on it."""
    file = blob(random.Random(1).randbytes(4 << 20))
    pack = pack_of([file])
    return commands([("refs/heads/x", ZERO, file.oid)]) + pack[: len(pack) // 2]


HALF_A_PUSH = half_a_push()


def answer_of(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def reset(connection: socket.socket) -> None:
    """Close without a goodbye: the server sees a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def wait_until(condition: Callable[[], bool], *, within_s: float = 15.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_does_not_end_is_cut(node: Node, connect: Open, said: bytes) -> None:
    connection = connect(node.http_port)
    connection.settimeout(CUT_S_MAX)
    connection.sendall(said)
    assert answer_of(connection) == b""


@pytest.mark.parametrize("service", ["git-upload-pack", "git-receive-pack"])
@pytest.mark.parametrize("begun", [b"", b"00", pkt(b"half a")])
def test_a_body_that_does_not_come_is_told_so(
    ada: Person, path: str, connect: Open, service: str, begun: bytes
) -> None:
    node = ada.node
    before = standing_of(node, path)
    connection = connect(node.http_port)
    connection.sendall(head(ada, path, service, length=1000) + begun)
    assert answer_of(connection).startswith(b"HTTP/1.1 408 ")
    check_unharmed(node, before)


def test_silence_in_the_middle_of_a_push_frees_everything(
    node: Node, ada: Person, path: str, connect: Open
) -> None:
    before = standing_of(node, path)
    connection = connect(node.http_port)
    connection.sendall(head(ada, path, "git-receive-pack", length=10 << 20) + HALF_A_PUSH)
    wait_until(lambda: bool(git_children(node)) and any((node.data / "quarantine").rglob("tmp_pack_*")))
    assert b"ok refs" not in answer_of(connection)
    check_unharmed(node, before)


def test_resets_in_the_middle_of_pushes_free_everything(
    node: Node, ada: Person, path: str, connect: Open
) -> None:
    """A leak would be four descriptors a push; a process that was not asked before opens a few for good."""
    before, files = standing_of(node, path), open_files(node, "data")
    for _ in range(8):
        connection = connect(node.http_port)
        connection.sendall(head(ada, path, "git-receive-pack", length=10 << 20) + HALF_A_PUSH)
        wait_until(lambda: bool(git_children(node)))
        reset(connection)
        wait_until_quiet(node)
    check_unharmed(node, before)
    wait_until(lambda: open_files(node, "data") < files + 16)


def test_a_git_that_is_killed_is_a_refused_push(node: Node, ada: Person, path: str, connect: Open) -> None:
    """As the kernel does when memory is short."""
    before = standing_of(node, path)
    connection = connect(node.http_port)
    connection.sendall(head(ada, path, "git-receive-pack", length=len(HALF_A_PUSH) + 4) + HALF_A_PUSH)
    wait_until(lambda: bool(git_children(node)))
    for pid in git_children(node):
        os.kill(pid, signal.SIGKILL)
    connection.sendall(b"rest")
    assert b"ng refs/heads/x unpacker error" in answer_of(connection)
    check_unharmed(node, before)


def test_many_who_say_nothing_are_in_nobodys_way(node: Node, ada: Person, path: str, connect: Open) -> None:
    """Nothing at all, half a head, a head without its body: two hundred of them."""
    for number in range(200):
        said = (b"", b"GET /", head(ada, path, "git-upload-pack", length=4))[number % 3]
        connect(node.http_port).sendall(said)
    started_s = time.monotonic()
    assert "refs/heads/main" in ada.git.refs(ada.url(path))
    assert time.monotonic() - started_s < 10


def test_silence_in_the_middle_of_a_push_over_ssh_frees_everything(
    node: Node, ada: Person, path: str
) -> None:
    before = standing_of(node, path)
    command = [*ada.git.ssh, "-p", str(node.ssh_port), "git@127.0.0.1", f"git-receive-pack '/{path}.git'"]
    with subprocess.Popen(
        command,
        env=ada.git.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdin
        assert client.stdout
        client.stdin.write(HALF_A_PUSH)
        client.stdin.flush()
        wait_until(lambda: bool(git_children(node)))
        assert b"ok refs" not in client.stdout.read()
        assert client.wait(CUT_S_MAX) != 0
    check_unharmed(node, before)


def test_nothing_is_left(node: Node) -> None:
    wait_until_quiet(node)
