"""The word of a replica, asked for by its socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.cluster.witness.decisions import Verdict
from mainstay.cluster.witness.promising import (
    SOCKET,
    NobodyPromises,
    WordServer,
    answer_of,
    ask_promise,
    ask_to_stand,
)


class Words:
    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def promise(self, epoch: int) -> Verdict:
        self.asked.append(("promise", epoch))
        return Verdict(epoch >= 7, f"epoch {epoch}")

    def stand(self, epoch: int) -> float:
        self.asked.append(("stand", epoch))
        return 3.5


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Longer than the name of a socket may be."""
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    return directory


@pytest.fixture
def words(run: Path) -> Iterator[Words]:
    words = Words()
    server = WordServer(run, words)
    server.start()
    yield words
    server.close()
    assert not (run / SOCKET).exists()


def test_a_promise_is_asked_for_and_given_or_not(run: Path, words: Words) -> None:
    assert ask_promise(run, 7) == Verdict(True, "epoch 7")
    assert ask_promise(run, 6) == Verdict(False, "epoch 6")
    assert ask_to_stand(run, 8) == 3.5
    assert words.asked == [("promise", 7), ("promise", 6), ("stand", 8)]


def test_only_the_owner_may_ask(run: Path, words: Words) -> None:
    assert (run / SOCKET).stat().st_mode & 0o777 == 0o600
    assert not words.asked


def test_nobody_there_is_said_at_once(run: Path) -> None:
    with pytest.raises(NobodyPromises, match="does not answer"):
        ask_promise(run, 7)
    left = socket.socket(socket.AF_UNIX)  # as a killed process leaves it
    left.close()
    with pytest.raises(NobodyPromises):
        ask_to_stand(run, 7)


def test_what_a_killed_process_left_is_in_nobodys_way(run: Path) -> None:
    (run / SOCKET).write_bytes(b"")
    server = WordServer(run, Words())
    server.start()
    try:
        assert ask_promise(run, 9)
    finally:
        server.close()


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"{", b"[]", b'{"ask": "promise"}', b'{"ask": "dance", "epoch": 1}', b'"x"\n' * 9]
)
def test_what_is_no_question_gets_no_answer(line: bytes) -> None:
    words = Words()
    assert answer_of(words, line) == b""
    assert not words.asked
