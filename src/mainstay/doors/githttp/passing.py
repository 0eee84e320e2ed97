"""Pass a request of Git on to the primary as it is, and its answer back as it is. Streams both ways.

No byte of a body is looked at, and none is held: who takes slowly slows down who sends, through both
connections. A client that asked to be asked for its body (`Expect: 100-continue`) is asked when the primary
asks. An answer that breaks off breaks off here, too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, histogram
from mainstay.repository.forwarding.line import Line, Request
from mainstay.repository.forwarding.whereabouts import Primary, PrimaryAway
from mainstay.repository.threads import ended

log = get_logger()

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

HOPS = b"x-mainstay-hops"
"""By how many sites a request was sent on before."""
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer"
    b" transfer-encoding upgrade".split()
)
_NOT_OURS_TO_SAY = frozenset({b"date", b"server"})
_CUT = b"The primary stopped answering in the middle. Whether it took the push is not known: fetch to see.\n"
_SILENCE_S_MAX = 900.0
"""Of a client; the primary judges its pace."""

_REQUESTS = counter("forwarded_requests_total", "Git requests that went on to the primary.", ["outcome"])
_SECONDS = histogram("forwarded_seconds", "From the request to the last byte.")
_BYTES = counter("forwarded_bytes_total", "Bytes of their bodies.", ["direction"])


@dataclass(slots=True)
class Passage:
    """One request on its way, and what became of it."""

    scope: Scope
    receive: Receive
    send: Send
    was_read: bool = False
    """Whether the body was touched: then it cannot be sent again."""
    status: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    moved_s: float = 0.0

    def moved(self) -> None:
        self.moved_s = time.monotonic()

    @property
    def hops(self) -> int:
        value = dict(self.scope["headers"]).get(HOPS, b"0")
        return int(value) if value.isdigit() and len(value) < 3 else 0  # noqa: PLR2004 - digits


async def pass_on(line: Line, primary: Primary, passage: Passage) -> None:
    """Returns when the answer went out, or the client left, or the answer was cut. Raises `PrimaryAway` as
    long as neither the body was read nor the answer has begun.
    """
    started_s = time.monotonic()
    outcome = "cut"
    try:
        outcome = await _unless_somebody_left(line, primary, passage)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        if not passage.was_read and not passage.status:
            outcome = "away"
            raise PrimaryAway(str(error) or type(error).__name__) from error
        log.warning("forwarding.cut", site=primary.name, error=repr(error), status=passage.status)
        await _hang_up(passage)
    except PrimaryAway:
        outcome = "away"
        raise
    finally:
        _REQUESTS.labels(outcome).inc()
        _SECONDS.observe(time.monotonic() - started_s)
        _BYTES.labels("sent").inc(passage.sent_bytes)
        _BYTES.labels("received").inc(passage.received_bytes)
        log.info(
            "forwarding.passed_on",
            site=primary.name,
            method=passage.scope["method"],
            status=passage.status,
            outcome=outcome,
            received_bytes=passage.received_bytes,
            sent_bytes=passage.sent_bytes,
            duration_ms=round((time.monotonic() - started_s) * 1000, 1),
        )


async def _unless_somebody_left(line: Line, primary: Primary, passage: Passage) -> str:
    """Work on it, until the client leaves or the primary stops answering at all."""
    body = _Body(passage)
    passage.moved()
    working = asyncio.create_task(_work(line, primary, passage, body))
    gone = asyncio.create_task(body.until_client_left())
    dead = asyncio.create_task(
        line.wait_until_dead(
            primary, moved_s=lambda: passage.moved_s, has_begun=lambda: passage.was_read or passage.status > 0
        )
    )
    try:
        await asyncio.wait({working, gone, dead}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return "answered"
        if gone.done():
            return "gone"
        raise TimeoutError("the primary stopped answering")
    finally:
        await ended(working, gone, dead)


async def _work(line: Line, primary: Primary, passage: Passage, body: "_Body") -> None:
    scope = passage.scope
    request = Request(
        method=scope["method"],
        raw_path=scope["raw_path"],
        query=scope["query_string"],
        headers=request_headers(scope, hops=passage.hops + 1),
    )
    async with await line.pass_on(primary, request, body.chunks() if body.is_there else None) as answer:
        passage.moved()
        headers = answer_headers(answer.raw_headers)
        if body.is_there and not body.ended.is_set():
            headers.append((b"connection", b"close"))  # what is left of the body is not read
        await _start(passage, answer.status, headers)
        async for chunk in answer.content.iter_any():
            await _more(passage, chunk)
        await passage.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _start(passage: Passage, status: int, headers: Headers) -> None:
    passage.status = status
    await passage.send({"type": "http.response.start", "status": status, "headers": headers})


async def _more(passage: Passage, chunk: bytes) -> None:
    passage.moved()
    passage.sent_bytes += len(chunk)
    await passage.send({"type": "http.response.body", "body": chunk, "more_body": True})
    passage.moved()


async def _hang_up(passage: Passage) -> None:
    """A begun answer is never completed, so the client sees that it was cut."""
    if passage.status:
        return
    headers = [(b"connection", b"close"), (b"content-type", b"text/plain; charset=utf-8")]
    await _start(passage, 502, [*headers, (b"content-length", b"%d" % len(_CUT))])
    await passage.send({"type": "http.response.body", "body": _CUT})


class _Body:
    """The body of the client, as it comes."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self.ended = asyncio.Event()
        names = {name for name, _ in passage.scope["headers"]}
        self.is_there = bool(names & {b"content-length", b"transfer-encoding"})

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises `OSError` when the client leaves in the middle, `TimeoutError` when it falls silent."""
        self._passage.was_read = True
        more = True
        while more:
            async with asyncio.timeout(_SILENCE_S_MAX):
                message = await self._passage.receive()
            if message["type"] == "http.disconnect":
                self.ended.set()
                raise ConnectionResetError("the client left in the middle of its request")
            more = message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            self._passage.received_bytes += len(piece)
            self._passage.moved()
            if piece:
                yield piece
        self.ended.set()

    async def until_client_left(self) -> None:
        """After the body, the next thing to come from a client is that it leaves."""
        if self.is_there:
            await self.ended.wait()
        while (await self._passage.receive())["type"] != "http.disconnect":
            pass


def request_headers(scope: Scope, *, hops: int) -> Headers:
    """What the primary gets: all that speaks of the whole way, and where the client is."""
    address, scheme = scope["client"][0], scope.get("scheme", "http")
    kept = [(name, value) for name, value in without_hops(scope["headers"]) if name != HOPS]
    ours = [
        (b"x-forwarded-for", address.encode()),
        (b"x-forwarded-proto", scheme.encode()),
        (HOPS, b"%d" % hops),
    ]
    return [*kept, *ours]


def answer_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What the client gets."""
    lowered = [(name.lower(), value) for name, value in headers]
    return [(name, value) for name, value in without_hops(lowered) if name not in _NOT_OURS_TO_SAY]


def without_hops(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers that speak of the whole way, not of one connection (RFC 9110, section 7.6.1)."""
    listed = list(headers)
    named = {
        part.strip().lower() for name, value in listed if name == b"connection" for part in value.split(b",")
    }
    return [(name, value) for name, value in listed if name not in _HOP_BY_HOP and name not in named]
