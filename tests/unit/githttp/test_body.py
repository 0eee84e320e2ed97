"""Reading the body of a request: plain and gzip, and the four ways in which it can hurt."""

import asyncio
import gzip
import os
from collections.abc import Sequence
from typing import Any

import pytest

from mainstay.doors.githttp.body import (
    Body,
    BodyBroken,
    BodyRefused,
    BodyTooLarge,
    BodyTooSlow,
    UnknownEncoding,
    is_too_dense,
    is_too_slow,
)
from mainstay.foundation.clock import ManualClock
from mainstay.repository.streams import ClientGone

MIB = 1024 * 1024


class Client:
    """Sends the pieces one after the other; None hangs up. After the last it says nothing any more."""

    def __init__(self, pieces: Sequence[bytes | None]) -> None:
        self.messages = [self._message(piece, last=at == len(pieces) - 1) for at, piece in enumerate(pieces)]

    @staticmethod
    def _message(piece: bytes | None, *, last: bool) -> dict[str, Any]:
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": not last}

    async def receive(self) -> dict[str, Any]:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)


def body_of(*pieces: bytes | None, encoding: bytes = b"", bytes_max: int = 0, **settings: Any) -> Body:
    given = {"idle_s_max": 5.0, "bytes_per_s_min": 1, "clock": ManualClock(), **settings}
    return Body(Client(pieces).receive, encoding=encoding, bytes_max=bytes_max, **given)


def read_all(body: Body) -> list[bytes]:
    async def read() -> list[bytes]:
        pieces = []
        while piece := await body.read():
            pieces.append(piece)
        return pieces

    return asyncio.run(read())


def refusal_of(body: Body) -> Exception:
    with pytest.raises(BodyRefused) as refused:
        read_all(body)
    return refused.value.because


def test_a_plain_body_comes_in_its_pieces() -> None:
    body = body_of(b"abc", b"", b"def", b"")
    assert read_all(body) == [b"abc", b"def"]
    assert (body.wire_bytes, body.plain_bytes, body.ended) == (6, 6, True)


@pytest.mark.parametrize("encoding", [b"gzip", b"x-gzip", b" GZIP "])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_gzip_body_is_unpacked_however_it_is_cut(encoding: bytes, size: int) -> None:
    plain = os.urandom(50_000) + b"x" * 500_000
    packed = gzip.compress(plain)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)] if size > 1 else [packed, b""]
    body = body_of(*pieces, encoding=encoding)
    assert b"".join(read_all(body)) == plain
    assert body.wire_bytes == len(packed)


def test_pieces_are_at_most_a_mebibyte() -> None:
    noise = b"".join(os.urandom(1024) + bytes(3072) for _ in range(1024))
    pieces = read_all(body_of(gzip.compress(noise), encoding=b"gzip"))
    assert b"".join(pieces) == noise
    assert max(map(len, pieces)) <= MIB


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(b"hello", mtime=0)[:-1],
        gzip.compress(b"hello", mtime=0)[:12],
        b"",
        b"hello, no gzip",
        gzip.compress(b"hello", mtime=0) + b"!",
        gzip.compress(b"hello", mtime=0) + gzip.compress(b"again", mtime=0),
        gzip.compress(b"hello", mtime=0)[:-8] + bytes(8),
    ],
)
def test_broken_gzip_is_refused(packed: bytes) -> None:
    assert isinstance(refusal_of(body_of(packed, encoding=b"gzip")), BodyBroken)
    assert isinstance(refusal_of(body_of(packed, b"", encoding=b"gzip")), BodyBroken)


@pytest.mark.parametrize("encoding", [b"deflate", b"br", b"gzip, gzip"])
def test_other_encodings_are_refused(encoding: bytes) -> None:
    with pytest.raises(UnknownEncoding):
        body_of(b"", encoding=encoding)


def test_the_size_is_counted_after_unpacking() -> None:
    plain = os.urandom(2000)
    assert read_all(body_of(gzip.compress(plain), encoding=b"gzip", bytes_max=2000)) == [plain]
    assert isinstance(
        refusal_of(body_of(gzip.compress(plain), encoding=b"gzip", bytes_max=1999)), BodyTooLarge
    )
    assert isinstance(refusal_of(body_of(b"x" * 1000, b"x" * 1000, bytes_max=1999)), BodyTooLarge)


def test_a_bomb_is_refused_before_it_has_unfolded() -> None:
    body = body_of(gzip.compress(bytes(500 * MIB // 10)), encoding=b"gzip")
    assert isinstance(refusal_of(body), BodyTooLarge)
    assert body.plain_bytes < 10 * MIB


def test_density_is_judged_beyond_a_free_part() -> None:
    assert not is_too_dense(1000, MIB + 100_000)
    assert is_too_dense(1000, MIB + 100_001)


def test_a_client_that_hangs_up_is_gone() -> None:
    with pytest.raises(ClientGone) as gone:
        read_all(body_of(b"abc", None))
    assert not isinstance(gone.value, BodyRefused)


def test_a_silent_client_is_cut() -> None:
    body = Body(
        Client([]).receive, encoding=b"", bytes_max=0, idle_s_max=0.01, bytes_per_s_min=1, clock=ManualClock()
    )
    assert isinstance(refusal_of(body), BodyTooSlow)


def test_a_trickling_client_is_cut() -> None:
    clock = ManualClock()
    body = body_of(b"a", b"b", b"c", clock=clock, idle_s_max=60.0, bytes_per_s_min=100)

    async def trickle() -> None:
        await body.read()
        clock.advance(61)
        await body.read()

    with pytest.raises(BodyRefused) as refused:
        asyncio.run(trickle())
    assert isinstance(refused.value.because, BodyTooSlow)


def test_the_pace_is_an_average_after_a_grace() -> None:
    assert not is_too_slow(60, 0, grace_s=60, bytes_per_s_min=1024)
    assert is_too_slow(61, 1023, grace_s=60, bytes_per_s_min=1024)
    assert not is_too_slow(61, 1024, grace_s=60, bytes_per_s_min=1024)
    assert not is_too_slow(3600, 10 * MIB, grace_s=60, bytes_per_s_min=1024)


def test_the_hang_up_is_heard_only_after_the_body() -> None:
    body = body_of(b"abc", b"def", None)
    body_client_messages = [b"abc", b"def"]

    async def converse() -> list[bytes]:
        listening = asyncio.create_task(body.hang_up())
        await asyncio.sleep(0)
        pieces = [await body.read(), await body.read()]
        assert not listening.done()
        listening.cancel()
        return pieces

    assert asyncio.run(converse()) == body_client_messages


def test_draining_reads_a_little_and_no_more() -> None:
    small, large = body_of(b"x" * 100, b"y"), body_of(*[b"x" * 1000] * 10)
    asyncio.run(small.drain(bytes_max=1000, seconds_max=1))
    asyncio.run(large.drain(bytes_max=1500, seconds_max=1))
    assert small.ended
    assert not large.ended
    assert large.wire_bytes == 2000
