"""Taking connections that begin with a PROXY header: limits, order, and an end that loses nobody."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from mainstay.boot import accepting
from mainstay.boot.accepting import Acceptor
from mainstay.boot.parsing import networks
from mainstay.foundation.proxy_header import Endpoint

ANNOUNCED = b"PROXY TCP4 192.0.2.7 10.0.0.1 5555 22\r\n"


class Echo(asyncio.Protocol):
    """Says who the client is, then sends back what comes."""

    def __init__(self, client: Endpoint | None) -> None:
        self._who = client.host if client else "nobody"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(f"{self._who}\n".encode())

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


Talk = Callable[[Acceptor, int], Awaitable[None]]


def accept(talk: Talk, *, proxies: str = "127.0.0.1") -> None:
    """Run `talk` with an acceptor and its port."""

    async def run() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        acceptor = Acceptor(listener, Echo, proxies=networks(proxies))
        try:
            async with asyncio.timeout(30):
                await talk(acceptor, port)
        finally:
            acceptor.close()
            await acceptor.wait_closed()

    asyncio.run(run())


async def said_to(port: int, *pieces: bytes) -> bytes:
    """Send, and read until the other side closes or has sent a line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_what_follows_a_header_reaches_the_protocol_untouched() -> None:
    async def talk(_acceptor: Acceptor, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ANNOUNCED + b"PROXY again\n")
        assert await reader.readline() == b"192.0.2.7\n"
        assert await reader.readline() == b"PROXY again\n"
        writer.close()

    accept(talk)


def test_who_is_no_proxy_announces_nothing() -> None:
    async def talk(_acceptor: Acceptor, port: int) -> None:
        assert await said_to(port) == b"nobody\n"

    accept(talk, proxies="10.0.0.0/8")


def test_a_proxy_that_stays_silent_is_cut_off_and_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "HEADER_SECONDS_MAX", 0.3)

    async def talk(_acceptor: Acceptor, port: int) -> None:
        silent = [asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        lines = await asyncio.gather(*silent)
        lines[0][1].write(ANNOUNCED[:10])
        assert await said_to(port, ANNOUNCED) == b"192.0.2.7\n"
        for reader, writer in lines:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
            writer.close()

    accept(talk)


def test_more_beginners_than_there_is_room_for_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "_BEGINNING_MAX", 2)
    monkeypatch.setattr(accepting, "_REST_S", 0.05)
    monkeypatch.setattr(accepting, "HEADER_SECONDS_MAX", 0.3)

    async def talk(_acceptor: Acceptor, port: int) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        assert await said_to(port, ANNOUNCED) == b"192.0.2.7\n"
        for _, writer in silent:
            writer.close()

    accept(talk)


def test_whoever_was_taken_before_the_close_is_served() -> None:
    async def talk(acceptor: Acceptor, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ANNOUNCED)
        assert await reader.readline() == b"192.0.2.7\n"
        late_reader, late_writer = await asyncio.open_connection("127.0.0.1", port)
        while not acceptor._beginning:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
        acceptor.close()
        late_writer.write(ANNOUNCED)
        assert await late_reader.readline() == b"192.0.2.7\n"
        await acceptor.wait_closed()
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        for each in (writer, late_writer):
            each.close()

    accept(talk)
