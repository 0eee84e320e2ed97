"""The body of a request from another node: its parameters, then its data as a `ByteSource`.

Somebody always listens, a few pieces ahead of who reads: so a caller that hangs up is noticed while a long
answer is made, and one that sends faster than we read has to wait.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import get_logger
from mainstay.repository.remote.frames import BadFrame, Frame, FrameReader, Kind
from mainstay.repository.streams import ClientGone
from mainstay.repository.threads import ended

log = get_logger()

Result = TypeVar("Result")

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_PIECES_AHEAD = 4


class Incoming:
    """Reads one body once. `listen` after the parameters were read, `close` at the end."""

    def __init__(self, receive: Receive, *, silence_s_max: float) -> None:
        self._receive = receive
        self._silence_s_max = silence_s_max
        self._reader = FrameReader()
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(_PIECES_AHEAD)
        self._listening: asyncio.Task[None] | None = None
        self._read_all = False
        self._body_ended = False
        self.received_bytes = 0

    async def parameters(self) -> bytes:
        """The first frame. Raises `BadFrame`, `ClientGone`."""
        first = await self._next_frame()
        if first.kind is not Kind.PARAMETERS:
            raise BadFrame(f"a request begins with its parameters, not with {first.kind.name}")
        return first.body

    def listen(self) -> None:
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        if self._listening is not None:
            await ended(self._listening)

    async def hang_up(self) -> None:
        """Return when the caller is gone, or speaks nonsense."""
        assert self._listening is not None, "nobody listens"
        await asyncio.wait({self._listening})

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises `ClientGone`."""
        if self._read_all:
            return b""
        assert self._listening is not None, "nobody listens"
        if self._listening.done() and self._pieces.empty():
            raise ClientGone
        piece = await self._pieces.get()
        self._read_all = not piece
        return piece

    async def _listen(self) -> None:
        try:
            while (found := await self._next_frame()).kind is not Kind.END:
                if found.kind is Kind.DATA and found.body:
                    self.received_bytes += len(found.body)
                    await self._pieces.put(found.body)
            await self._pieces.put(b"")
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except ClientGone:
            return
        except Invalid as error:
            log.warning("nodes.caller_not_understood", because=str(error))

    async def _next_frame(self) -> Frame:
        while (found := self._reader.next()) is None:
            if self._body_ended:
                raise BadFrame("the body stopped before its end")
            self._reader.feed(await self._next_chunk())
        return found

    async def _next_chunk(self) -> bytes:
        try:
            async with asyncio.timeout(self._silence_s_max):
                message = await self._receive()
        except TimeoutError:
            raise ClientGone(f"silent for {self._silence_s_max:.0f} s") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._body_ended = not message.get("more_body", False)
        return bytes(message.get("body", b""))


async def unless_gone(work: Coroutine[Any, Any, Result], incoming: Incoming) -> Result:
    """Do the work, but cancel it when the caller hangs up: nobody would read what comes of it."""
    working = asyncio.create_task(work)
    gone = asyncio.create_task(incoming.hang_up())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        await ended(working, gone)
