"""Pass a request on to the web process, over a Unix socket, and its answer back. Streams both ways.

The web process believes what this door tells it in `X-Mainstay-…` headers: the raw path (still percent-
encoded, so that `%2F` inside a segment survives), the client's address and the scheme. So no client may send
such a header, nor one with an underscore in its name, which WSGI cannot tell from a hyphen.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from mainstay.doors.web.closed import HEADER as MAINTENANCE
from mainstay.doors.web.headers import SAFETY
from mainstay.doors.web.pages import error_answer
from mainstay.foundation.logs import get_logger

log = get_logger()

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RAW_PATH = "X-Mainstay-Raw-Path"
CLIENT_ADDRESS = "X-Mainstay-Client-Address"
RAW_QUERY = "X-Mainstay-Raw-Query"
SCHEME = "X-Mainstay-Scheme"

_OURS = b"x-mainstay-"
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_BYTES_MAX = 64 * 1024 * 1024
_BODY_SILENCE_S_MAX = 30.0
_CONNECTIONS_MAX = 64
_AWAY_S_MAX = 15.0
"""A restart of the web process is a pause, not an error, up to this long."""
_URL = URL("http://web/")
"""The same for all: what was asked for is in the headers, untouched by anybody's idea of a clean address."""
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=30.0, sock_connect=2.0, sock_read=120.0)


class WebProxy:
    """An ASGI application: everything that no other door of the data plane claims."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(scope, receive)
        started = _Started(send)
        pump = asyncio.create_task(self._pass_on(scope, body, started))
        gone = asyncio.create_task(body.until_client_left())
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not pump.done():
                return  # nobody waits for the answer; `finally` breaks it off
            await pump
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if started.yes:
                raise
            status = body.refused or (504 if isinstance(error, TimeoutError) else 502)
            log.warning("web.proxy_failed", status=status, error=repr(error))
            await _send_error(scope, send, status)
        finally:
            for task in (pump, gone):
                task.cancel()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _pass_on(self, scope: Scope, body: "Body", started: "_Started") -> None:
        async with await self._ask(scope, body) as answer:
            await started.send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": answer_headers(answer.raw_headers),
                }
            )
            async for chunk in answer.content.iter_any():
                await started.send({"type": "http.response.body", "body": chunk, "more_body": True})
            await started.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ask(self, scope: Scope, body: "Body") -> aiohttp.ClientResponse:
        """Send the request. While the web process is away, try again a little while: only what was never
        sent, or may be sent twice.
        """
        deadline_s = asyncio.get_running_loop().time() + _AWAY_S_MAX
        while True:
            try:
                return await self._open_session().request(
                    scope["method"],
                    _URL,
                    headers=request_headers(scope),
                    data=body.chunks() if body.is_there else None,
                    allow_redirects=False,
                )
            except aiohttp.ClientConnectionError as error:
                never_sent = isinstance(error, aiohttp.ClientConnectorError)
                repeatable = scope["method"] in _SAFE_METHODS or never_sent
                if not repeatable or body.was_read or asyncio.get_running_loop().time() > deadline_s:
                    raise
                await asyncio.sleep(0.1)

    def _open_session(self) -> aiohttp.ClientSession:
        """Made on the first request, because it belongs to the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._socket), limit=_CONNECTIONS_MAX),
                timeout=_TIMEOUT,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                read_bufsize=256 * 1024,
            )
        return self._session


class _Started:
    """Remembers whether the answer has begun: after that, an error can only be a cut."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.yes = False

    async def send(self, message: Message) -> None:
        self.yes = True
        await self._send(message)


class Body:
    """The body of one request, within its limits."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._left_bytes = _BODY_BYTES_MAX
        self._ended = asyncio.Event()
        self.was_read = False
        self.refused = 0
        """The status to answer when the body was too long (413) or too slow (408)."""
        names = {name for name, _ in scope["headers"]}
        self.is_there = bool(names & {b"content-length", b"transfer-encoding"})

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises OSError at a limit, or when the client leaves in the middle."""
        self.was_read = True
        more = True
        while more:
            message = await self._next()
            more = message.get("more_body", False)
            yield message.get("body", b"")
        self._ended.set()

    async def until_client_left(self) -> None:
        """After the body, the next thing to come from a client is that it leaves."""
        if self.is_there:
            await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            continue

    async def _next(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), _BODY_SILENCE_S_MAX)
        except TimeoutError:
            self.refused = 408
            raise
        if message["type"] == "http.disconnect":
            self._ended.set()
            raise ConnectionResetError("the client left in the middle of its request")
        self._left_bytes -= len(message.get("body", b""))
        if self._left_bytes < 0:
            self.refused = 413
            raise OSError("the request body is too long")
        return message


def request_headers(scope: Scope) -> "CIMultiDict[str]":
    """What the web process gets to see."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in without_hops(scope["headers"]):
        if not name.startswith(_OURS) and b"_" not in name:
            headers.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
    headers[RAW_PATH] = scope["raw_path"].decode("ascii")
    headers[RAW_QUERY] = quote_from_bytes(scope["query_string"], safe=_PRINTABLE)
    headers[CLIENT_ADDRESS] = scope["client"][0]
    headers[SCHEME] = scope["scheme"]
    if "maintenance" in scope:
        headers[MAINTENANCE] = scope["maintenance"]
    return headers


def without_hops(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers that speak of the whole way, not of one connection (RFC 9110, section 7.6.1)."""
    listed = list(headers)
    named = {
        part.strip().lower() for name, value in listed if name == b"connection" for part in value.split(b",")
    }
    return [(name, value) for name, value in listed if name not in _HOP_BY_HOP and name not in named]


def answer_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What the client gets to see; `date` is ours to say, and what serves behind us is nobody's business."""
    lowered = [(name.lower(), value) for name, value in headers]
    return [(name, value) for name, value in without_hops(lowered) if name not in (b"date", b"server")]


async def _send_error(scope: Scope, send: Send, status: int) -> None:
    body, content_type = error_answer(scope["path"], dict(scope["headers"]).get(b"accept", b""), status)
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *((name.lower().encode(), value.encode()) for name, value in SAFETY.items()),
    ]
    if status in (502, 503, 504):
        headers.append((b"retry-after", b"2"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
