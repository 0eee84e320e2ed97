"""The first thing every HTTP request meets: who is calling, under which id, and which door answers.

A peer is believed about others (`X-Forwarded-For`, `X-Forwarded-Proto`, `X-Request-Id`) only when it is a
trusted proxy; otherwise these headers are thrown away. Behind the entrance the truth is in one place each:
the address in `scope["client"]`, the scheme in `scope["scheme"]`, the id in the `x-request-id` header.

Maintenance mode is met here, by every door that does not say otherwise (`Door.deed`).
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from typing import Any

from mainstay.boot.forwarded import client_address, is_request_id, is_trusted, scheme_of
from mainstay.boot.parsing import Networks
from mainstay.doors.web.closed import NO_FRONT, Front
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.ip import plain_text
from mainstay.foundation.logs import bound, get_logger
from mainstay.foundation.metrics import Counter, Histogram, counter, histogram
from mainstay.ops.maintenance.routes import DeedOf, deed_of_request

log = get_logger()

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

REQUESTS = counter("http_requests_total", "HTTP requests by door and status class.", ["door", "status"])
SECONDS = histogram("http_request_seconds", "From the head of a request to the end of its answer.", ["door"])
RECEIVED = counter("http_received_bytes_total", "Bytes of request bodies.", ["door"])
SENT = counter("http_sent_bytes_total", "Bytes of answer bodies.", ["door"])

_FORWARDING = frozenset(
    f"x-forwarded-{about}".encode() for about in ("for", "proto", "host", "port", "prefix", "server", "ssl")
) | {b"x-request-id", b"x-real-ip", b"forwarded"}


@dataclass(frozen=True, slots=True)
class Door:
    """A name for the metrics, a question about the request, and who answers."""

    name: str
    claims: Callable[[Scope], bool]
    app: App
    deed: DeedOf = deed_of_request
    """What a request is about, for maintenance mode. What a door does not know to be harmless is a write."""


class Entrance:
    """The ASGI application of the data plane."""

    def __init__(
        self,
        doors: Sequence[Door],
        *,
        trusted_proxies: Networks,
        is_draining: Callable[[], bool],
        front: Front = NO_FRONT,
        vouched: Callable[[Scope], bool] = lambda _: False,
    ) -> None:
        """`vouched`: whether a peer counts as a trusted proxy whatever its address is."""
        self._doors = doors
        self._trusted = trusted_proxies
        self._is_draining = is_draining
        self._front = front
        self._vouched = vouched

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "lifespan and websockets are off"
        request_id = self._identify(scope)
        door = next(door for door in self._doors if door.claims(scope))
        visit = _Visit(door.name, request_id, receive, send, self._is_draining())
        with bound(request_id=request_id):
            try:
                await self._front.lead(door.app, door.deed, scope, visit.receive, visit.send)
            except Exception:
                log.exception("boot.request_crashed", door=door.name, method=scope["method"])
                await visit.apologize()
            finally:
                visit.count()

    def _identify(self, scope: Scope) -> str:
        """Rewrite the scope as the module promises, and return the request id."""
        headers: Headers = scope["headers"]
        peer = scope["client"][0] if scope["client"] else ""
        proxies = self._proxies(peer, scope)
        trusted = is_trusted(peer, proxies)
        claimed = dict(headers) if trusted else {}
        forwarded = [value for name, value in headers if name == b"x-forwarded-for"] if trusted else []
        scope["client"] = (client_address(peer, forwarded, proxies), 0)
        scope["scheme"] = scheme_of(claimed.get(b"x-forwarded-proto", b""), scope["scheme"])
        given = claimed.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if is_request_id(given) else new_ulid()
        kept = [(name, value) for name, value in headers if name not in _FORWARDING]
        scope["headers"] = [*kept, (b"x-request-id", request_id.encode())]
        return request_id

    def _proxies(self, peer: str, scope: Scope) -> Networks:
        if not (peer and self._vouched(scope)):
            return self._trusted
        return (*self._trusted, ip_network(plain_text(peer)))


class _Visit:
    """One request on its way: counts it, and puts our headers on its answer."""

    def __init__(self, door: str, request_id: str, receive: Receive, send: Send, last: bool) -> None:
        self._door = door
        self._request_id = request_id
        self._receive = receive
        self._send = send
        self._last = last
        self._status = 0
        self._received_bytes = 0
        self._sent_bytes = 0
        self._started_s = time.monotonic()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = self._with_ours(list(message.get("headers", [])))
        else:
            self._sent_bytes += len(message.get("body", b""))
        await self._send(message)

    def _with_ours(self, headers: Headers) -> Headers:
        if not any(name.lower() == b"x-request-id" for name, _ in headers):
            headers.append((b"x-request-id", self._request_id.encode()))
        if self._last:  # the client should look for another node, or for this one after its restart
            headers = [(name, value) for name, value in headers if name.lower() != b"connection"]
            headers.append((b"connection", b"close"))
        return headers

    async def apologize(self) -> None:
        """A bug before the first byte becomes a 500; after it, the server cuts the connection."""
        if self._status:
            raise AnswerCut
        body = b"Something went wrong here. It is in the log under the request id.\n"
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def count(self) -> None:
        numbers = _numbers_of(self._door, f"{self._status // 100}xx" if self._status else "none")
        numbers.requests.inc()
        numbers.seconds.observe(time.monotonic() - self._started_s)
        numbers.received.inc(self._received_bytes)
        numbers.sent.inc(self._sent_bytes)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers of requests of one kind."""

    requests: Counter
    seconds: Histogram
    received: Counter
    sent: Counter


@lru_cache(maxsize=64)
def _numbers_of(door: str, status: str) -> _Numbers:
    """To find them by their labels takes as long as to count."""
    return _Numbers(
        requests=REQUESTS.labels(door, status),
        seconds=SECONDS.labels(door),
        received=RECEIVED.labels(door),
        sent=SENT.labels(door),
    )


class AnswerCut(Exception):
    """An answer broke off in the middle; the server closes the connection, so nobody takes it for whole."""
