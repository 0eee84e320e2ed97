"""The body of a small request: whole, or an error that says what is wrong with it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mainstay.foundation.small_body import BodyBroken, BodyTooLarge, BodyTooSlow, whole_body

Message = dict[str, Any]


def receiving(*messages: Message) -> Callable[[], Awaitable[Message]]:
    """ASGI's `receive`, which has no more to say after these."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def read(*messages: Message, within_s: float = 10) -> bytes:
    return asyncio.run(whole_body(receiving(*messages), bytes_max=4, within_s=within_s))


def test_parts_are_put_together() -> None:
    assert read(part(b"a", more=True), part(b"", more=True), part(b"bcd", more=False)) == b"abcd"
    assert read({"type": "http.request"}) == b""


def test_one_byte_too_many_is_refused_before_the_rest_comes() -> None:
    with pytest.raises(BodyTooLarge, match="longer than 4 bytes"):
        read(part(b"abc", more=True), part(b"de", more=True))


def test_a_client_that_goes_away_has_sent_nothing() -> None:
    with pytest.raises(BodyBroken, match="broken off"):
        read(part(b"abcd", more=True), {"type": "http.disconnect"})


def test_nobody_waits_for_ever() -> None:
    with pytest.raises(BodyTooSlow, match=r"more than 0\.05 s"):
        read(part(b"a", more=True), within_s=0.05)
