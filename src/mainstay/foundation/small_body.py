"""The whole body of a request that is small: so many bytes, within so many seconds, or an error."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mainstay.foundation.errors import Invalid

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class BodyTooLarge(Invalid):
    """More came than such a request may have."""


class BodyTooSlow(Invalid):
    """It was not whole in time."""


class BodyBroken(Invalid):
    """The client went away in the middle of it."""


async def whole_body(receive: Receive, *, bytes_max: int, within_s: float) -> bytes:
    """All of it, from ASGI's `receive`. Raises `BodyTooLarge`, `BodyTooSlow`, `BodyBroken`."""
    try:
        async with asyncio.timeout(within_s):
            return await _whole(receive, bytes_max)
    except TimeoutError:
        raise BodyTooSlow(f"the request takes more than {within_s:g} s") from None


async def _whole(receive: Receive, bytes_max: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BodyBroken("the request is broken off")
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise BodyTooLarge(f"the request is longer than {bytes_max} bytes")
        if not message.get("more_body"):
            return bytes(body)
