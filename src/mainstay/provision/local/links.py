"""The way from one member to another as a TCP proxy, so that it can be cut or slowed without root.

link.cut()       connections break, new ones are refused
link.silence()   as a pulled cable: connections stay, nothing passes, nobody is told
link.slow(s)     every piece is late by so many seconds
link.heal()
"""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal

from mainstay.provision.local.ports import Reservation

_PIECE_BYTES = 1 << 16
_CONNECT_S = 5.0
_CALL_S = 10.0

Mode = Literal["open", "cut", "silent"]


class Wire:
    """The thread that carries all links of a stack. Close it at the end."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._links: list[Link] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def link(self, name: str, target: tuple[str, int]) -> "Link":
        """A new open link to HOST, PORT."""
        link = Link(name, target, self)
        self.call(link.open())
        self._links.append(link)
        return link

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    def close(self) -> None:
        """Cut all links and give their ports back."""
        self.call(self._end_links())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    async def _end_links(self) -> None:
        for link in self._links:
            await link.end()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Link:
    """One listening port, passed on to one target."""

    def __init__(self, name: str, target: tuple[str, int], wire: Wire) -> None:
        self.name = name
        self.target = target
        self.mode: Mode = "open"
        self._reservation = Reservation()
        self.port = self._reservation.port
        self._wire = wire
        self._delay_s = 0.0
        self._may_pass = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._visits: set[asyncio.Task[Any]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        self._wire.call(self._become("cut"))

    def silence(self) -> None:
        self._wire.call(self._become("silent"))

    def slow(self, seconds: float) -> None:
        self._delay_s = seconds

    def heal(self) -> None:
        self._delay_s = 0.0
        self._wire.call(self._become("open"))

    async def open(self) -> None:
        self._may_pass.set()
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    async def end(self) -> None:
        """Cut it for good."""
        await self._close()
        self._reservation.close()

    async def _become(self, mode: Mode) -> None:
        self.mode = mode
        if mode == "open":
            self._may_pass.set()
            if self._server is None:
                await self.open()
        elif mode == "silent":
            self._may_pass.clear()
        else:
            await self._close()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for visit in list(self._visits):
            visit.cancel()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a server calls this in a task of its own"
        self._visits.add(task)
        try:
            await self._may_pass.wait()
            with suppress(OSError, asyncio.TimeoutError):
                there = await asyncio.wait_for(asyncio.open_connection(*self.target), _CONNECT_S)
                await self._both_ways((reader, writer), there)
        except asyncio.CancelledError:
            pass  # cut: what the other side hears is the end of the connection
        finally:
            self._visits.discard(task)
            writer.transport.abort()

    async def _both_ways(
        self,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        try:
            ways = (self._pass(here[0], there[1]), self._pass(there[0], here[1]))
            await asyncio.gather(*ways)
        finally:
            there[1].transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._may_pass.wait()
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
