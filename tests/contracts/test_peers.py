"""What a node makes of the answer of another, and of its silence."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mainstay.cluster.blame import PeerSays
from mainstay.cluster.nodes import NodeRow
from mainstay.cluster.peers import PATH, PeerQuestions, peer_token
from mainstay.foundation.logs import Secret

TOKEN = peer_token("the secret key of the installation")


def peer(port: int, name: str = "b") -> NodeRow:
    return NodeRow(
        id=name,
        name=name,
        http="",
        ssh="",
        rpc="",
        health=f"127.0.0.1:{port}",
        roles=frozenset(),
        labels=(),
        version="1",
        state="ready",
    )


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    """A port that answers always the same, and what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("token")))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()


def ask(*ports: int, token: Secret = TOKEN) -> list[PeerSays]:
    questions = PeerQuestions(token)
    try:
        return questions.ask([peer(port) for port in ports], "database")
    finally:
        questions.close()


@pytest.mark.parametrize("well", [True, False])
def test_a_peer_is_asked_with_the_token_and_believed(well: bool) -> None:
    with answering(200, json.dumps({"well": well}).encode()) as (port, asked):
        assert ask(port) == [PeerSays(name="b", reached=True, well=well, denies=not well)]
    assert asked == [(f"{PATH}?of=database", TOKEN.reveal())]


@pytest.mark.parametrize(
    ("status", "body"), [(404, b""), (500, b"{}"), (200, b"nonsense"), (200, b'{"well": "yes"}')]
)
def test_an_answer_that_is_none_vouches_for_nothing(status: int, body: bytes) -> None:
    with answering(status, body) as (port, _):
        assert ask(port) == [PeerSays(name="b", reached=True)]


def test_a_frozen_peer_is_there_and_vouches_for_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        assert ask(frozen.getsockname()[1]) == [PeerSays(name="b", reached=True)]


def test_a_peer_that_is_not_there_is_not_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert ask(port) == [PeerSays(name="b", reached=False)]
    assert ask() == []


def test_tokens_of_different_installations_differ() -> None:
    assert peer_token("another").reveal() != TOKEN.reveal()
