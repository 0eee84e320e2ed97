"""What the door sends: JSON, or a stream with a limit on how long nobody takes it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from mainstay.foundation.errors import (
    Conflict,
    Invalid,
    MainstayError,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from mainstay.storage.feed.log import FeedGone

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

_PART_BYTES: Final = 128 * 1024
_STATUSES: Final[Sequence[tuple[type[Exception], int]]] = (
    (FeedGone, 410),
    (Invalid, 400),
    (NotAllowed, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
    (OutcomeUnknown, 503),
)


class PeerStuck(Exception):
    """The other site takes nothing any more; the connection is cut."""


class Answer:
    """The answer to one request. Begun once."""

    def __init__(self, send: Send, *, silence_s_max: float) -> None:
        self._send = send
        self._silence_s_max = silence_s_max
        self.status = 0
        self.sent_bytes = 0

    async def begin(self, status: int, headers: Headers) -> None:
        self.status = status
        every = [*headers, (b"cache-control", b"no-store")]
        await self._within({"type": "http.response.start", "status": status, "headers": every})

    async def piece(self, body: bytes, *, is_last: bool = False) -> None:
        """Waits until the connection can take more; the limit is on each small part of it."""
        self.sent_bytes += len(body)
        *parts, last = [body[at : at + _PART_BYTES] for at in range(0, len(body), _PART_BYTES)] or [b""]
        for part in parts:
            await self._within({"type": "http.response.body", "body": part, "more_body": True})
        await self._within({"type": "http.response.body", "body": last, "more_body": not is_last})

    async def tell(self, status: int, facts: Mapping[str, Any], headers: Headers = ()) -> None:
        """A whole answer in JSON."""
        body = json.dumps(dict(facts)).encode() + b"\n"
        length = (b"content-length", b"%d" % len(body))
        await self.begin(status, [(b"content-type", b"application/json"), length, *headers])
        await self.piece(body, is_last=True)

    async def refuse(self, error: MainstayError | OutcomeUnknown) -> None:
        """The sentence of an error, under the status of its family."""
        status = next(status for family, status in _STATUSES if isinstance(error, family))
        retry_s = error.retry_after_s if isinstance(error, Unavailable) else 0
        headers = [(b"retry-after", b"%d" % retry_s)] if retry_s else []
        await self.tell(status, {"message": str(error)}, headers)

    async def _within(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._silence_s_max):
                await self._send(message)
        except TimeoutError:
            raise PeerStuck from None
