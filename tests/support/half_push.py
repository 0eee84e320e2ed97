"""Half a push, over HTTP by a bare socket and over SSH by OpenSSH, and what the server says to it."""

import random
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable

from support.people import Person
from support.raw_http import commands
from support.raw_push import ZERO, blob, pack_of


def _half_a_push() -> bytes:
    """The commands, and half of a pack that is long enough for git to be at work on it."""
    file = blob(random.Random(1).randbytes(4 << 20))
    pack = pack_of([file])
    return commands([("refs/heads/x", ZERO, file.oid)]) + pack[: len(pack) // 2]


HALF_A_PUSH = _half_a_push()


def head(ada: Person, path: str, service: str, *, length: int) -> bytes:
    """The head of a request to this service; the server closes after its answer."""
    pair = b64encode(f"ada:{ada.password}".encode()).decode()
    return (
        f"POST /{path}.git/{service} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Basic {pair}\r\n"
        f"Content-Type: application/x-{service}-request\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def answer_of(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def half_pushed(ada: Person, path: str) -> "subprocess.Popen[bytes]":
    """A client over SSH that has sent half a push and says no more."""
    where = ["-p", str(ada.node.ssh_port), "git@127.0.0.1"]
    client = subprocess.Popen(
        [*ada.git.ssh, *where, f"git-receive-pack '/{path}.git'"],
        env=ada.git.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert client.stdin
    client.stdin.write(HALF_A_PUSH)
    client.stdin.flush()
    return client


def wait_until(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)
