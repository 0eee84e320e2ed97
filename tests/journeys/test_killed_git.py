"""The kernel kills a git of the node, as it does when memory is short: the push is refused, no more."""

import os
import signal
import socket

import pytest

from support.aftermath import check_unharmed, standing_of
from support.half_push import HALF_A_PUSH, answer_of, half_pushed, head, wait_until
from support.node import Node
from support.people import Person
from support.process_tree import git_children

ANSWER_S_MAX = 60.0


@pytest.fixture(scope="module")
def path(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> str:
    work = ada.git.repository(tmp_path_factory.mktemp("work") / "work")
    ada.git("push", "--quiet", ada.url("ada/killed"), "main", cwd=work)
    return "ada/killed"


def _is_killed(pid: int) -> bool:
    """False: it had ended by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_git(node: Node) -> None:
    wait_until(lambda: sum(map(_is_killed, git_children(node))) > 0)


@pytest.mark.parametrize("rest", [b"", b"r", b"rest" * 100_000], ids=["no-rest", "a-byte", "a-long-rest"])
def test_over_http(node: Node, ada: Person, path: str, rest: bytes) -> None:
    before = standing_of(node, path)
    length = len(HALF_A_PUSH) + len(rest)
    with socket.create_connection(("127.0.0.1", node.http_port), timeout=ANSWER_S_MAX) as connection:
        connection.sendall(head(ada, path, "git-receive-pack", length=length) + HALF_A_PUSH[:-1])
        kill_git(node)
        connection.sendall(HALF_A_PUSH[-1:] + rest)
        assert b"ng refs/heads/x unpacker error" in answer_of(connection)
    check_unharmed(node, before)


def test_over_ssh(node: Node, ada: Person, path: str) -> None:
    before = standing_of(node, path)
    with half_pushed(ada, path) as client:
        assert client.stdout
        kill_git(node)
        assert b"ng refs/heads/x unpacker error" in client.stdout.read()
        assert client.wait(ANSWER_S_MAX) == 0
    check_unharmed(node, before)
