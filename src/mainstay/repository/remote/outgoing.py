"""The answer to another node: BEGUN, data as a `ByteSink`, and an end that says that it is whole."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mainstay.foundation.errors import MainstayError, OutcomeUnknown, Unavailable
from mainstay.repository.remote import faults, frames
from mainstay.repository.remote.frames import Kind, data_frames, frame
from mainstay.repository.streams import ClientGone
from mainstay.repository.threads import ended

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]


class Outgoing:
    """Either a refusal with a status of its own, or a stream of frames."""

    def __init__(self, send: Send, *, alive_s: float, stuck_s_max: float) -> None:
        self._send = send
        self._alive_s = alive_s
        self._stuck_s_max = stuck_s_max
        self._spoke = False
        self.status = 0
        self.sent_bytes = 0

    async def begin(self) -> None:
        """Admit the request: its data may come."""
        self.status = 200
        headers = [(b"content-type", b"application/x-mainstay-frames"), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._say(frame(Kind.BEGUN))

    async def write(self, chunk: bytes) -> None:
        """Send data and wait until the connection can take more. Raises `ClientGone`."""
        for each in data_frames(chunk):
            await self._say(each)
        self.sent_bytes += len(chunk)

    async def aside(self, text: bytes) -> None:
        """Say something to the person at the end of a session. Raises `ClientGone`."""
        await self._say(frame(Kind.ASIDE, text))

    async def finish(self, result: bytes = b"") -> None:
        await self._say(frame(Kind.END, result), more=False)

    async def fail(self, error: MainstayError | OutcomeUnknown) -> None:
        """Say what went wrong, in the place of the end. Raises `ClientGone`."""
        await self._say(frame(Kind.FAILED, faults.said(error)), more=False)

    async def refuse(
        self, status: int, error: MainstayError | None = None, headers: Sequence[Header] = ()
    ) -> None:
        """Answer without BEGUN, and end the connection: the rest of the request is not read."""
        self.status = status
        body = faults.said(error) if error else b""
        always = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        if error:
            always.append((b"content-type", b"application/json"))
        if isinstance(error, Unavailable):
            always.append((b"retry-after", b"%d" % error.retry_after_s))
        await self._send({"type": "http.response.start", "status": status, "headers": [*always, *headers]})
        await self._send({"type": "http.response.body", "body": body})

    async def tell(self, body: bytes) -> None:
        """A whole small answer."""
        self.status = 200
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Say ALIVE whenever nothing else is said for a while."""
        task = asyncio.create_task(self._signs_of_life())
        try:
            yield
        finally:
            await ended(task)

    async def _signs_of_life(self) -> None:
        while True:
            self._spoke = False
            await asyncio.sleep(self._alive_s)
            if not self._spoke:
                await self._say(frames.ALIVE)

    async def _say(self, body: bytes, *, more: bool = True) -> None:
        """One frame is one message, so two tasks never tear each other's frames."""
        self._spoke = True
        try:
            async with asyncio.timeout(self._stuck_s_max):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise ClientGone(f"took nothing for {self._stuck_s_max:.0f} s") from None
