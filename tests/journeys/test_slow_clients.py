"""Clients that send slowly, stop, or vanish: cut after a while, cleaned up after, and in nobody's way."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from support.aftermath import check_unharmed, standing_of
from support.half_push import HALF_A_PUSH, answer_of, half_pushed, head, wait_until
from support.node import Node
from support.people import Person, person
from support.process_tree import git_children, open_files, wait_until_quiet
from support.raw_push import pkt

IDLE_S = 2
CUT_S_MAX = 60.0

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


def reset(connection: socket.socket) -> None:
    """Close without a goodbye: the server sees a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# Beside each other: the time that a client has is the same for all.
def test_heads_that_do_not_end_are_cut(node: Node, connect: Open) -> None:
    heads = (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
    connections = [connect(node.http_port) for _ in heads]
    for connection, said in zip(connections, heads, strict=True):
        connection.sendall(said)
    assert {said: answer_of(each) for said, each in zip(heads, connections, strict=True)} == dict.fromkeys(
        heads, b""
    )


def test_bodies_that_do_not_come_are_told_so(ada: Person, path: str, connect: Open) -> None:
    before = standing_of(ada.node, path)
    begun = {
        (service, body): connect(ada.node.http_port)
        for service in ("git-upload-pack", "git-receive-pack")
        for body in (b"", b"00", pkt(b"half a"))
    }
    for (service, body), connection in begun.items():
        connection.sendall(head(ada, path, service, length=1000) + body)
    answers = {which: answer_of(connection).partition(b"\r\n")[0] for which, connection in begun.items()}
    assert {line[:13] for line in answers.values()} == {b"HTTP/1.1 408 "}, answers
    check_unharmed(ada.node, before)


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
    with half_pushed(ada, path) as client:
        assert client.stdout
        wait_until(lambda: bool(git_children(node)))
        assert b"ok refs" not in client.stdout.read()
        assert client.wait(CUT_S_MAX) != 0
    check_unharmed(node, before)


def test_nothing_is_left(node: Node) -> None:
    wait_until_quiet(node)
