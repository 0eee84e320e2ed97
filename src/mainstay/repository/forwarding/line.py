"""Speak to the primary: look, pass a request on, hold a session. By the line between sites.

Every wait has an end. To connect takes `connect_s_max`; a look has `look_s_max`. What is passed on may take
long (a push is checked, a database that fails over is awaited), so there silence is not judged by itself:
whoever waits asks beside it whether the primary is still alive, and gives up when it is not: soon, as long as
nothing has begun, and late after that. A machine that vanished is noticed by TCP. Who found the primary away
is believed by the others, until somebody who asks every second finds it back.
"""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_from_bytes

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from mainstay.cluster.placement import GitNode
from mainstay.cluster.sites.identity import server_name_of
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter
from mainstay.repository.forwarding.whereabouts import Primary, PrimaryAway
from mainstay.repository.remote.calls import Session
from mainstay.repository.remote.strict import BadFields, Fields, fields_of
from mainstay.repository.remote.wire import Aside, Directory, Naming, NotServed, Patience, Wire
from mainstay.repository.streams import ByteSink, ByteSource
from mainstay.repository.threads import ended

log = get_logger()

ROOT: Final = "/-/sites/v1/"
LOOK: Final = f"{ROOT}look"
ALIVE: Final = f"{ROOT}alive"
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_READ_BYTES = 1 << 18
_ANSWER_BYTES_MAX = 64 * 1024
_OK = 200
_NAME_S_MAX = 1.0
"""To find out the address."""
_LOOKS_MAX = 60
_NOT_REACHED = ("unreachable", "timeout", "untrusted")
_BROKEN_OFF = ("cut", "garbled")
_KEEPALIVE = (("TCP_KEEPIDLE", 2), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 5000))

_AWAY = counter("forwarding_primary_away_total", "Times that the primary was not reached.", ["call"])

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    connect_s_max: float = 1.5
    look_s_max: float = 4.0
    silence_s: float = 1.0
    """After so much of it whoever waits asks whether the primary is alive."""
    alive_s_max: float = 1.2
    failures_max: int = 2
    """So often that may be answered by silence, too, before anything has begun; `…_begun` afterwards."""
    failures_max_begun: int = 10
    away_s: float = 1.0
    """Between two looks whether a primary that was found away is back."""
    kept_s: float = 15.0
    """How long a connection that nobody uses is kept: less than the other end does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is passed on as it is."""

    method: str
    raw_path: bytes
    query: bytes
    headers: Headers


class Line:
    """Belongs to one event loop from its first use until it is closed."""

    def __init__(self, context: Callable[[], ssl.SSLContext], *, limits: Limits | None = None) -> None:
        """`context` shows the certificate of this site; another one when that was renewed."""
        self._context = context
        self.limits = limits or Limits()
        self._names = Directory()
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._alive_s: dict[str, float] = {}
        self._wires: dict[int, tuple[ssl.SSLContext, Wire]] = {}
        self._away: dict[str, str] = {}
        self._looking_out: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        await ended(*self._looking_out)
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()
        for _, wire in self._wires.values():
            await wire.close()

    async def look(self, primary: Primary, asked: Mapping[str, Any]) -> Fields:
        """Ask for a repository on somebody's behalf. Raises `PrimaryAway`."""
        self._refuse_if_away(primary)
        try:
            async with asyncio.timeout(self.limits.look_s_max):
                status, body = await self._looked(primary, asked)
        except (aiohttp.ClientError, TimeoutError, OSError, Unavailable) as error:
            raise self._found_away(primary, "look", _text(error)) from error
        if status != _OK:
            raise PrimaryAway(_sentence(status, body))
        try:
            return fields_of(body)
        except BadFields as error:
            raise PrimaryAway(f"its answer is not understood: {error}") from error

    async def _looked(self, primary: Primary, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        """A kept connection may have died; to ask twice does no harm."""
        try:
            return await self._look_once(primary, asked)
        except aiohttp.ServerDisconnectedError:
            return await self._look_once(primary, asked)

    async def _look_once(self, primary: Primary, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        url, context = self._url(primary, LOOK), self._context()
        async with self._keeping().post(url, json=asked, ssl=context, allow_redirects=False) as answer:
            body = bytearray()
            while piece := await answer.content.readany():
                body += piece
                if len(body) > _ANSWER_BYTES_MAX:
                    raise aiohttp.ClientPayloadError("the answer is too long")
            return answer.status, bytes(body)

    async def pass_on(
        self, primary: Primary, request: Request, body: AsyncIterator[bytes] | None
    ) -> aiohttp.ClientResponse:
        """The answer of the primary to this very request, once it has begun. Close it after use.

        Raises `PrimaryAway` when it was not reached, and what `aiohttp` raises when it stopped later. What
        has a body gets a connection of its own: on a kept one that has died it would be half sent already.
        """
        self._refuse_if_away(primary)
        url = self._url(primary, _ascii(request.raw_path), _ascii(request.query))
        sent = _texts(request.headers)
        expects = sent.pop("Expect", "").lower() == "100-continue"
        try:
            session = self._keeping() if body is None else self._using_once()
            return await session.request(
                request.method,
                url,
                headers=sent,
                data=body,
                ssl=self._context(),
                allow_redirects=False,
                expect100=expects and body is not None,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, Unavailable) as error:
            raise self._found_away(primary, "pass_on", _text(error)) from error

    async def session(
        self,
        primary: Primary,
        call: Session,
        *,
        source: ByteSource,
        sink: ByteSink,
        aside: Aside,
        request_id: str,
    ) -> int:
        """Hold a session there; the exit code. Raises `PrimaryAway` when it did not begin, `NotServed`."""
        self._refuse_if_away(primary)
        node = GitNode(id=primary.site_id, host=primary.host, port=primary.port)
        try:
            result = await self._wire().ask(
                node,
                call.name,
                call.encode(),
                source=source,
                sink=sink,
                request_id=request_id,
                is_last=False,
                aside=aside,
            )
        except NotServed as failed:
            if failed.reason in _BROKEN_OFF:
                raise
            if failed.reason in _NOT_REACHED:
                raise self._found_away(primary, "session", _text(failed)) from failed
            raise PrimaryAway(_text(failed.error)) from failed
        return result[0] if result else 0

    async def wait_until_dead(
        self, primary: Primary, *, moved_s: Callable[[], float], has_begun: Callable[[], bool]
    ) -> None:
        """Return when the primary does not answer at all any more. `moved_s`: when something last came."""
        limits, failures = self.limits, 0
        while failures < (limits.failures_max_begun if has_begun() else limits.failures_max):
            await asyncio.sleep(limits.silence_s / 3)
            if time.monotonic() - moved_s() < limits.silence_s:
                failures = 0
                continue
            failures = 0 if await self._is_alive(primary) else failures + 1
        self._found_away(primary, "alive", "it stopped answering")

    async def _is_alive(self, primary: Primary) -> bool:
        """Whether it has answered just now, whoever asked."""
        if time.monotonic() - self._alive_s.get(primary.site_id, float("-inf")) < self.limits.silence_s:
            return True
        try:
            async with asyncio.timeout(self.limits.alive_s_max):
                url = self._url(primary, ALIVE)
                async with self._keeping().get(url, ssl=self._context(), allow_redirects=False):
                    self._alive_s = {primary.site_id: time.monotonic()}
        except (aiohttp.ClientError, TimeoutError, OSError, Unavailable):
            return False
        return True

    def _refuse_if_away(self, primary: Primary) -> None:
        why = self._away.get(primary.site_id)
        if why is not None:
            raise PrimaryAway(why)

    def _found_away(self, primary: Primary, call: str, why: str) -> PrimaryAway:
        _AWAY.labels(call).inc()
        if primary.site_id not in self._away:
            log.warning("forwarding.primary_away", site=primary.name, call=call, because=why)
            self._away[primary.site_id] = why
            task = asyncio.create_task(self._look_out_for(primary))
            self._looking_out.add(task)
            task.add_done_callback(self._looking_out.discard)
        return PrimaryAway(why)

    async def _look_out_for(self, primary: Primary) -> None:
        """Ask every second whether it is back. After a while the next request finds out by itself."""
        try:
            for _ in range(_LOOKS_MAX):
                await asyncio.sleep(self.limits.away_s)
                if await self._is_alive(primary):
                    return
        finally:
            self._away.pop(primary.site_id, None)

    def _url(self, primary: Primary, path: str, query: str = "") -> URL:
        server = server_name_of(primary.site_id)
        self._names.learn(server, primary.host)
        return URL.build(
            scheme="https", host=server, port=primary.port, path=path, query_string=query, encoded=True
        )

    def _keeping(self) -> aiohttp.ClientSession:
        """Keeps its connections for a while."""
        if self._kept is None:
            self._kept = self._opened(keepalive_timeout=self.limits.kept_s)
        return self._kept

    def _using_once(self) -> aiohttp.ClientSession:
        if self._fresh is None:
            self._fresh = self._opened(force_close=True)
        return self._fresh

    def _opened(self, **about_keeping: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._names,
                use_dns_cache=False,
                limit=0,
                socket_factory=_watched_socket,
                **about_keeping,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=self.limits.connect_s_max + _NAME_S_MAX,
                sock_connect=self.limits.connect_s_max,
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            read_bufsize=_READ_BYTES,
        )

    def _wire(self) -> Wire:
        """One for each certificate, which changes every few months; sessions under way keep theirs."""
        context = self._context()
        if id(context) not in self._wires:
            patience = Patience(connect_s_max=self.limits.connect_s_max, begin_s_max=self.limits.look_s_max)
            naming = Naming(server=server_name_of, address=lambda name: f"{ROOT}{name}")
            wire = Wire(context=context, token=None, patience=patience, naming=naming)
            self._wires[id(context)] = (context, wire)
        return self._wires[id(context)][1]


def _ascii(raw: bytes) -> str:
    """A part of an address as it came over the wire, untouched by anybody's idea of a clean one."""
    return quote_from_bytes(raw, safe=_PRINTABLE)


def _texts(headers: Headers) -> "CIMultiDict[str]":
    texts: CIMultiDict[str] = CIMultiDict()
    for name, value in headers:
        texts.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
    return texts


def _watched_socket(info: Any) -> socket.socket:
    """One that notices within seconds that the other machine is gone."""
    family, kind, protocol, *_ = info
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _sentence(status: int, body: bytes) -> str:
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        said = ""
    return f"it answered {status}: {said[:300]}" if said else f"it answered {status}"


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
