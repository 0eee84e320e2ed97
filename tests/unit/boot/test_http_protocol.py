"""Limits that uvicorn leaves to others, on a transport that is not a socket."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from mainstay.boot import http_protocol
from mainstay.boot.http_protocol import (
    SILENT_BYTES_MAX,
    BoundedHttpProtocol,
    GatheringTransport,
    server_options,
)


class Line(asyncio.Transport):
    """What the protocol writes, and whether it hung up."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.packets: list[bytes] = []
        self.closed = False
        self.hung_up = False
        """Whether it was closed before the client closed it."""

    def write(self, data: Any) -> None:
        self.written += bytes(data)
        self.packets.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def answer(_scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        continue
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def talk(*pieces: bytes) -> Line:
    """Send the pieces one by one and return what came of it."""

    async def run() -> Line:
        config = uvicorn.Config(answer, **server_options())
        config.load()
        protocol = BoundedHttpProtocol(config, ServerState(), {})
        line = Line()
        protocol.connection_made(line)
        for piece in pieces:
            if not line.closed:
                protocol.data_received(piece)
            for _ in range(5):
                await asyncio.sleep(0)
        line.hung_up = line.closed
        protocol.connection_lost(None)
        return line

    return asyncio.run(run())


def test_an_ordinary_request_is_answered() -> None:
    line = talk(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert line.written.startswith(b"HTTP/1.1 200")


def test_a_short_answer_goes_out_in_one_piece() -> None:
    line = talk(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert line.packets == [line.written]
    assert line.written.endswith(b"\r\n\r\nok")


def test_what_is_written_before_a_close_is_sent_before_it() -> None:
    async def run() -> Line:
        line = Line()
        gathering = GatheringTransport(line)
        gathering.write(b"last ")
        gathering.write(b"words")
        assert line.packets == []
        gathering.close()
        assert line.closed
        await asyncio.sleep(0)
        return line

    assert asyncio.run(run()).packets == [b"last words"]


def test_much_is_not_held_so_that_the_transport_can_say_when_it_is_full() -> None:
    async def run() -> Line:
        line = Line()
        gathering = GatheringTransport(line)
        for _ in range(5):
            gathering.write(b"a" * 8192)
        assert len(line.packets) == 1, "three at once, and two that wait for the end of the turn"
        await asyncio.sleep(0)
        return line

    assert [len(packet) for packet in asyncio.run(run()).packets] == [3 * 8192, 2 * 8192]


def test_what_is_written_to_a_lost_connection_is_dropped() -> None:
    async def run() -> Line:
        line = Line()
        gathering = GatheringTransport(line)
        gathering.write(b"to nobody")
        line.close()
        await asyncio.sleep(0)
        return line

    assert asyncio.run(run()).packets == []


def test_an_endless_head_is_cut_off() -> None:
    pieces = [b"GET / HTTP/1.1\r\n", *[b"x-filler: " + b"a" * 1000 + b"\r\n"] * 100]
    line = talk(*pieces)
    assert line.hung_up
    assert line.written.startswith(b"HTTP/1.1 431")


def test_one_endless_header_is_cut_off() -> None:
    line = talk(b"GET / HTTP/1.1\r\nx: ", *[b"a" * 8192] * 10)
    assert line.hung_up
    assert b"431" in line.written


@pytest.mark.parametrize("hidden", ["trailer", "extension"])
def test_what_a_chunked_body_hides_is_bounded_too(hidden: str) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"
    start = b"0\r\nx: " if hidden == "trailer" else b"2;x="
    line = talk(head + start, *[b"a" * 8192] * 10)
    assert line.hung_up


def test_a_long_body_is_no_long_head() -> None:
    body = b"a" * (4 * SILENT_BYTES_MAX)
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    line = talk(head, *[body[at : at + 8192] for at in range(0, len(body), 8192)])
    assert line.written.startswith(b"HTTP/1.1 200")


def test_requests_on_one_connection_are_counted_each_for_itself() -> None:
    request = b"GET / HTTP/1.1\r\nhost: x\r\nx-filler: " + b"a" * (SILENT_BYTES_MAX // 2) + b"\r\n\r\n"
    line = talk(*[request] * 5)
    assert not line.hung_up
    assert line.written.count(b"HTTP/1.1 200") == 5


def test_a_head_that_never_comes_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS_MAX", 0.0)
    line = talk(b"GET / HT", b"", b"")
    assert line.hung_up
    assert line.written == b""
