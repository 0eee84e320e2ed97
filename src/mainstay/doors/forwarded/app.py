"""The primary's end of forwarding, on the line between sites:

    POST look       {"credentials": …, "path": …, "address": …}: who it is, and at which version it is
    POST session    a conversation of Git over SSH, in frames as between nodes
    GET  alive      that somebody is here

Whoever comes here has shown the certificate of a site. What a site says about its clients is believed: that
they showed these credentials, or proved to have this key, from this address. What they may is decided here.
A site that is not the primary says so (409); a session it sends on, as it would one of its own clients.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Protocol

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Invalid, MainstayError, OutcomeUnknown, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, histogram
from mainstay.foundation.small_body import whole_body
from mainstay.product.projects.vouching import Vouching, asked_from
from mainstay.repository.forwarding.line import ALIVE, LOOK, ROOT
from mainstay.repository.remote.calls import Session
from mainstay.repository.remote.incoming import Incoming, Receive, unless_gone
from mainstay.repository.remote.outgoing import Outgoing, Send
from mainstay.repository.remote.strict import fields_of
from mainstay.repository.streams import ClientGone
from mainstay.repository.threads import Threads

log = get_logger()

Scope = MutableMapping[str, Any]

SESSION: Final = f"{ROOT}{Session.name}"
_PATHS: Final = frozenset({LOOK, ALIVE, SESSION})
_BODY_BYTES_MAX = 64 * 1024
_BODY_S_MAX = 10.0
_SILENCE_S_MAX = 30.0
_ALIVE_S = 5.0
_STUCK_S_MAX = 900.0
_SESSIONS_MAX = 256
_LOOK_THREADS = 8

_REQUESTS = counter("forwarding_requests_total", "What other sites sent on.", ["call", "outcome"])
_SECONDS = histogram("forwarding_seconds", "From the request to the end of the answer.", ["call"])


class Crowded(Unavailable):
    """Too many sessions of other sites at the same time."""


class Ends:
    """Both ends of a session, and the person at the end of it."""

    def __init__(self, incoming: Incoming, outgoing: Outgoing) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def read(self) -> bytes:
        return await self._incoming.read()

    async def write(self, chunk: bytes) -> None:
        await self._outgoing.write(chunk)

    async def complain(self, text: str) -> None:
        await self._outgoing.aside(text.encode("utf-8", "replace"))


class Host(Protocol):
    """Holds a session; the exit code. Raises `ClientGone`, `OutcomeUnknown`."""

    def __call__(self, session: Session, ends: Ends) -> Awaitable[int]: ...


class ForwardedDoor:
    """An ASGI application."""

    def __init__(
        self, *, vouching: Vouching, host: Host, is_primary: Callable[[], bool], clock: Clock
    ) -> None:
        self._vouching = vouching
        self._host = host
        self._is_primary = is_primary
        self._clock = clock
        self._threads = Threads(_LOOK_THREADS)
        self._sessions = 0

    @staticmethod
    def claims(scope: Scope) -> bool:
        return scope["path"] in _PATHS

    def close(self) -> None:
        self._threads.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s, call = self._clock.monotonic_s(), str(scope["path"]).removeprefix(ROOT)
        outcome = "cut"
        try:
            outcome = await self._answer(scope, receive, send)
        finally:
            _REQUESTS.labels(call, outcome).inc()
            _SECONDS.labels(call).observe(self._clock.monotonic_s() - started_s)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> str:
        method, path = scope["method"], scope["path"]
        if path == ALIVE:
            await _tell(send, 200, {})
            return "answered"
        if method != "POST":
            await _tell(send, 405, {"message": "this address takes POST only"})
            return "refused"
        if path == SESSION:
            return await self._session(scope, receive, send)
        return await self._look(receive, send)

    async def _look(self, receive: Receive, send: Send) -> str:
        if not self._is_primary():
            await _tell(send, 409, {"message": "this site is not the primary"})
            return "refused"
        try:
            body = await whole_body(receive, bytes_max=_BODY_BYTES_MAX, within_s=_BODY_S_MAX)
            asked = asked_from(fields_of(body))
            said = await self._threads.run(self._vouching.look, asked)
        except (MainstayError, OutcomeUnknown) as error:
            await _tell(send, 400 if isinstance(error, Invalid) else 503, {"message": str(error)})
            return "refused"
        await _tell(send, 200, said)
        return "answered"

    async def _session(self, scope: Scope, receive: Receive, send: Send) -> str:
        incoming = Incoming(receive, silence_s_max=_SILENCE_S_MAX)
        outgoing = Outgoing(send, alive_s=_ALIVE_S, stuck_s_max=_STUCK_S_MAX)
        try:
            session = await self._asked(incoming)
        except ClientGone:
            return "gone"
        except MainstayError as error:
            await outgoing.refuse(503 if isinstance(error, Unavailable) else 400, error)
            return "refused"
        self._sessions += 1
        try:
            return await self._hold(session, incoming, outgoing)
        finally:
            self._sessions -= 1
            await incoming.close()
            log.info(
                "forwarding.session_held",
                site_id=scope["extensions"].get("mainstay.site", ""),
                hops=session.hops,
                received_bytes=incoming.received_bytes,
                sent_bytes=outgoing.sent_bytes,
            )

    async def _asked(self, incoming: Incoming) -> Session:
        if self._sessions >= _SESSIONS_MAX:
            raise Crowded(f"{_SESSIONS_MAX} sessions of other sites are held already", retry_after_s=2)
        try:
            async with asyncio.timeout(_BODY_S_MAX):
                return Session.decode(await incoming.parameters())
        except TimeoutError:
            raise ClientGone("no parameters came") from None

    async def _hold(self, session: Session, incoming: Incoming, outgoing: Outgoing) -> str:
        incoming.listen()
        try:
            await outgoing.begin()
            async with outgoing.alive():
                code = await unless_gone(self._held(session, incoming, outgoing), incoming)
            await outgoing.finish(bytes([code]))
        except OutcomeUnknown as error:
            await outgoing.fail(error)
            return "unknown"
        except ClientGone:
            return "gone"
        return "answered"

    async def _held(self, session: Session, incoming: Incoming, outgoing: Outgoing) -> int:
        return await self._host(session, Ends(incoming, outgoing))


async def _tell(send: Send, status: int, facts: Mapping[str, Any]) -> None:
    body = json.dumps(facts).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
