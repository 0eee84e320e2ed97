"""Maintenance mode before all doors of HTTP: let in, let wait, or answer in the asker's own way.

A browser gets a page, the API and other programs JSON, git a sentence. Nothing of this needs the web process
or the database. While there is something to tell (`scheduled` or `on`), every answer of pages and API has it
in the header `X-Mainstay-Maintenance`, as JSON, and pages show it.
"""

import asyncio
import html
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from mainstay.doors.web.headers import SAFETY
from mainstay.doors.web.pages import STYLE, STYLE_PATH, page
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Unavailable
from mainstay.ops.maintenance.decisions import API_SENTENCE, Deed
from mainstay.ops.maintenance.lookout import FAILOVER, Closed, Held, Lookout, always_open
from mainstay.ops.maintenance.routes import DeedOf
from mainstay.ops.maintenance.state import HOLD_S_MAX, Mode
from mainstay.repository.holding import Waiting

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

HEADER = "X-Mainstay-Maintenance"
"""Of answers, and of requests to the web process; no client may send it."""
HELD_MAX = 500
"""Requests of this process that wait for a planned failover; more are refused at once."""

_GRACE_S = 5.0
"""Beyond the longest hold, for a clock that is a little off; the decree itself ends the waiting."""
_DRAIN_BYTES_MAX = 1024 * 1024
_DRAIN_S_MAX = 2.0
_HEADER = HEADER.lower().encode()
_GIT = (Deed.FETCH, Deed.PUSH)


class Front:
    """Leads each request to its door, or tells it why not."""

    def __init__(self, lookout: Lookout, *, held_max: int = HELD_MAX) -> None:
        self._lookout = lookout
        self._waiting = Waiting(hold_s=HOLD_S_MAX + _GRACE_S, waiting_max=held_max, cause=FAILOVER)

    async def lead(self, app: App, deed_of: DeedOf, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve by `app` what `deed_of` says may be served now. A body is not read before."""
        if not self._lookout.has_something:
            await app(scope, receive, send)
            return
        deed = deed_of(scope["method"], scope["raw_path"], scope["query_string"])

        async def check() -> None:
            self._lookout.check(deed, address=scope["client"][0])

        try:
            await self._waiting.through(check, on=Held)
        except (Closed, Held) as refusal:
            await self._refuse(refusal, deed, scope, receive, send)
            return
        if self._lookout.mode is Mode.FULL and scope["raw_path"] == STYLE_PATH.encode():
            await _send(send, 200, STYLE, "text/css; charset=utf-8", [])
            return
        await app(scope, receive, send if deed in _GIT else self._telling(scope, send))

    def _telling(self, scope: Scope, send: Send) -> Send:
        """Put what is to be told into the request for the pages, and into the answer."""
        banner = self._lookout.banner
        if banner is None:
            return send
        text = scope["maintenance"] = json.dumps(banner)

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (_HEADER, text.encode())]
            await send(message)

        return telling

    async def _refuse(
        self, refusal: Unavailable, deed: Deed, scope: Scope, receive: Receive, send: Send
    ) -> None:
        banner = self._lookout.banner
        body, content_type = _told(refusal, deed, scope, banner)
        headers = [(b"retry-after", str(refusal.retry_after_s).encode())]
        if banner is not None:
            headers.append((_HEADER, json.dumps(banner).encode()))
        if not await _read_away(scope, receive):
            headers.append((b"connection", b"close"))
        await _send(send, 503, body, content_type, headers)


def _told(refusal: Unavailable, deed: Deed, scope: Scope, banner: dict[str, str] | None) -> tuple[bytes, str]:
    """Body and type of a refusal."""
    if deed in _GIT:
        return f"{refusal}\n".encode(), "text/plain; charset=utf-8"
    if b"text/html" in _header(scope, b"accept") and not scope["raw_path"].startswith(b"/api/"):
        return maintenance_page(banner), "text/html; charset=utf-8"
    sentence = refusal.sentence if isinstance(refusal, Closed) else API_SENTENCE
    told = {"message": sentence, **({"maintenance": banner} if banner else {})}
    return json.dumps(told).encode(), "application/json"


def maintenance_page(banner: dict[str, str] | None) -> bytes:
    """For people. What is closed, in the operator's words if there are any, and what to do about it."""
    is_full = banner is not None and banner["mode"] == Mode.FULL.value
    title = "Closed for maintenance" if is_full else "Read-only for now"
    lead = (
        "Mainstay is temporarily unavailable. Nothing is lost; pushes will work again afterwards."
        if is_full
        else "You can look at everything and fetch. Changes and pushes have to wait."
    )
    message = banner["message"] if banner else ""
    said = f'<p class="notice">{html.escape(message)}</p>' if message else ""
    return page(title, f'<h1>{title}</h1><p class="lead">{lead}</p>{said}<p>Try again in a little while.</p>')


def banner_html(text: str) -> str:
    """The banner of a page, out of the header of the request; empty when there is nothing to tell."""
    if not text:
        return ""
    banner = json.loads(text)
    what = "closed" if banner["mode"] == Mode.FULL.value else "read-only"
    starts = html.escape(f"{banner['starts_at'][:16].replace('T', ' ')} UTC")
    when = f"From {starts} this site is" if banner["state"] == "scheduled" else "This site is"
    said = f" {html.escape(banner['message'])}" if banner["message"] else ""
    return f'<p class="notice" role="status">{when} {what} for maintenance.{said}</p>'


async def _read_away(scope: Scope, receive: Receive) -> bool:
    """Read away a small body, so that the refusal is not lost in a reset; False when some of it is left."""
    if not _header(scope, b"content-length") and not _header(scope, b"transfer-encoding"):
        return True
    if _header(scope, b"expect").lower() == b"100-continue":
        return False
    left_bytes = _DRAIN_BYTES_MAX
    try:
        async with asyncio.timeout(_DRAIN_S_MAX):
            while left_bytes > 0:
                message = await receive()
                left_bytes -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        return False
    return False


async def _send(send: Send, status: int, body: bytes, content_type: str, headers: Sequence[Header]) -> None:
    ours = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *((name.lower().encode(), value.encode()) for name, value in SAFETY.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*ours, *headers]})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> bytes:
    value: bytes = dict(scope["headers"]).get(name, b"")
    return value


NO_FRONT = Front(always_open(SYSTEM))
"""For a port that serves machines only."""
