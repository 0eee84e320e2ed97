"""The answer as a `ByteSink`: nothing is sent before the first byte is there, so that until then an error
can still become a status of its own.

What `expect` allows is held back to go out in one piece with its length; beyond, the answer is chunked.
A client that takes nothing for `idle_s_max` is gone for us.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from mainstay.repository.streams import ClientGone

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

NO_CACHE: Sequence[Header] = (
    (b"expires", b"Fri, 01 Jan 1980 00:00:00 GMT"),
    (b"pragma", b"no-cache"),
    (b"cache-control", b"no-cache, max-age=0, must-revalidate"),
)


class Answer:
    """Status 200 and a body; `refuse` instead, as long as nothing was sent."""

    def __init__(
        self,
        send: Send,
        *,
        request_id: str,
        idle_s_max: float,
        with_body: bool = True,
    ) -> None:
        self._send = send
        self._content_type = b"text/plain"
        self._request_id = request_id
        self._idle_s_max = idle_s_max
        self._held_bytes_max = 0
        self._closing: list[Header] = []
        self._with_body = with_body
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.status = 0
        self.started = False
        self.sent_bytes = 0

    def expect(self, content_type: str, *, hold: int = 0) -> None:
        """Say what the body will be, and how much of it to hold back."""
        self._content_type = content_type.encode()
        self._held_bytes_max = hold

    def close_after(self) -> None:
        """End the connection with this answer."""
        self._closing = [(b"connection", b"close")]

    def hold(self, prefix: bytes) -> None:
        """Put bytes before the first write, without starting the answer."""
        self._held.append(prefix)
        self._held_bytes += len(prefix)

    async def write(self, chunk: bytes) -> None:
        """Send bytes and wait until the connection can take more. Raises `ClientGone`."""
        if not chunk:
            return
        self.hold(chunk)
        if self.started or self._held_bytes > self._held_bytes_max:
            await self._flush()

    async def finish(self) -> None:
        """Complete the answer, empty or not."""
        body = self._take_held()
        if not self.started:
            await self._start(200, self._headers(len(body)))
        await self._send_body(body, more=False)

    async def refuse(self, status: int, sentence: str, headers: Sequence[Header] = ()) -> None:
        assert not self.started, "an answer that began cannot become an error"
        text = sentence.encode("utf-8", "replace") + b"\n"
        self._take_held()
        plain = (
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-request-id", self._request_id.encode()),
        )
        await self._start(status, [*plain, *NO_CACHE, *headers])
        await self._send_body(text, more=False)

    async def hang_up(self) -> None:
        """Break off: a begun answer is never completed, so the client sees that it was cut."""
        self._take_held()
        if not self.started:
            self.close_after()
            await self._start(200, self._headers(None))

    async def _flush(self) -> None:
        body = self._take_held()
        if not self.started:
            await self._start(200, self._headers(None))
        await self._send_body(body, more=True)

    def _headers(self, length: int | None) -> list[Header]:
        headers = [(b"content-type", self._content_type), (b"x-request-id", self._request_id.encode())]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        return [*headers, *NO_CACHE]

    async def _start(self, status: int, headers: Sequence[Header]) -> None:
        self.status, self.started = status, True
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, *self._closing]}
        )

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        self.sent_bytes += len(body)
        try:
            async with asyncio.timeout(self._idle_s_max):
                await self._send(
                    {
                        "type": "http.response.body",
                        "body": body if self._with_body else b"",
                        "more_body": more,
                    }
                )
        except TimeoutError:
            raise ClientGone from None

    def _take_held(self) -> bytes:
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held, self._held_bytes = [], 0
        return body
