"""A word to the person in front of the pack, wherever the chunks break."""

import asyncio

import pytest

from mainstay.git.protocol.pktline import DELIM, FLUSH, encode
from mainstay.repository.remark import RemarkedSink, after_section

WORD = encode(b"\x02look\n")
HEAD = encode(b"acknowledgments\n") + encode(b"ready\n") + DELIM
PACK = encode(b"\x01PACK...") + FLUSH
ANSWER = HEAD + encode(b"packfile\n") + PACK


class Sink:
    def __init__(self) -> None:
        self.written = b""

    async def write(self, chunk: bytes) -> None:
        self.written += chunk


def remarked(*chunks: bytes) -> bytes:
    sink = Sink()

    async def write() -> None:
        remarking = RemarkedSink(sink, "look")
        for chunk in chunks:
            await remarking.write(chunk)

    asyncio.run(write())
    return sink.written


EXPECTED = HEAD + encode(b"packfile\n") + WORD + PACK


@pytest.mark.parametrize("size", [1, 3, 7, 64, 4096])
def test_the_word_comes_once_after_the_opening_of_the_pack(size: int) -> None:
    chunks = [ANSWER[at : at + size] for at in range(0, len(ANSWER), size)]
    assert remarked(*chunks) == EXPECTED


def test_a_clone_has_nothing_before_its_pack() -> None:
    answer = encode(b"packfile\n") + PACK
    assert remarked(answer) == encode(b"packfile\n") + WORD + PACK


@pytest.mark.parametrize("answer", [b"", encode(b"a" * 40 + b" refs/heads/main\n") + FLUSH, HEAD + FLUSH])
def test_an_answer_without_a_pack_passes_unchanged(answer: bytes) -> None:
    assert remarked(answer) == answer


def test_what_is_no_packet_passes_unchanged_too() -> None:
    assert remarked(b"what is this", ANSWER) == b"what is this" + ANSWER


def test_an_endless_head_is_not_collected() -> None:
    line = encode(b"x" * 60_000)
    assert remarked(line, line, ANSWER) == line + line + ANSWER


def test_a_packet_that_has_not_come_whole_opens_nothing() -> None:
    assert after_section(encode(b"packfile\n")[:-1]) is None
