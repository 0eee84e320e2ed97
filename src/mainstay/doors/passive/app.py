"""The door of pages and API, which opens only where the site is the primary.

Elsewhere the answer is 503: a page for people ("Server in replication mode", how far behind, where the
primary is), JSON for programs. It is made here, from what the process knows already: neither the web process
nor the database is asked. What the site is, is looked at for each request, so a promotion needs no restart.

A replica may show pages and answer the API as far as that only reads, if it was asked to (`reads`). What it
shows is as old as it says in a header.
"""

import html
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from mainstay.cluster.station import Sight

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
PageOf = Callable[[str, str], bytes]
"""Of a title and the HTML below it."""

TITLE = "Server in replication mode"
_TITLE_SUPERSEDED = "Another site is the primary now"
_RETRY_AFTER_S = 30
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_AGE_HEADER = b"x-mainstay-replica"
_MINUTE_S = 60


class PrimaryOnly:
    """An ASGI application: `app` on the primary, a refusal elsewhere."""

    def __init__(
        self,
        app: App,
        *,
        sight: Callable[[], Sight],
        page: PageOf,
        style: tuple[str, bytes],
        headers: Mapping[str, str],
        reads: bool = False,
    ) -> None:
        """`page` makes a whole page, which finds its `style` (path and text) here; `headers` go with it.

        `reads`: a replica lets people look.
        """
        self._app = app
        self._sight = sight
        self._reads = reads
        self._page = page
        self._style_path, self._style = style
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sight = self._sight()
        if not sight.is_passive:
            await self._app(scope, receive, send)
            return
        if self._reads and sight.role == "replica" and scope["method"] in _READING:
            await self._app(scope, receive, _saying_how_old(send, sight))
            return
        if scope["raw_path"] == self._style_path.encode():
            await self._tell(send, 200, self._style, "text/css; charset=utf-8")
            return
        if wants_page(scope):
            body, kind = self._page(title_of(sight), page_content(sight)), "text/html; charset=utf-8"
        else:
            body, kind = json.dumps(told(sight)).encode(), "application/json"
        # What was sent along is not read: the connection ends instead.
        closing = [(b"connection", b"close")] if scope["method"] not in ("GET", "HEAD") else []
        retry = (b"retry-after", b"%d" % _RETRY_AFTER_S)
        await self._tell(send, 503, b"" if scope["method"] == "HEAD" else body, kind, retry, *closing)

    async def _tell(
        self, send: Send, status: int, body: bytes, kind: str, *more: tuple[bytes, bytes]
    ) -> None:
        ours = [
            (b"content-type", kind.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        headers = [*ours, *self._headers, *more]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _saying_how_old(send: Send, sight: Sight) -> Send:
    known_s = sight.lag.seconds if sight.lag else None
    age = b"unknown" if known_s is None else b"%ds" % round(known_s)

    async def saying(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (_AGE_HEADER, b"behind=" + age)]}
        await send(message)

    return saying


def wants_page(scope: Scope) -> bool:
    """Whether a person looks, rather than a program."""
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return b"text/html" in accept and not scope["raw_path"].startswith(b"/api/")


def told(sight: Sight) -> dict[str, Any]:
    """For programs."""
    lag = sight.lag
    return {
        "message": f"{title_of(sight)}: {sight.reason}",
        "role": sight.role,
        "primary": sight.primary.url or None,
        "primary_site": sight.primary.name or None,
        "epoch": sight.primary.epoch,
        "lag": None
        if lag is None
        else {
            "seconds": None if lag.seconds is None else round(lag.seconds, 1),
            "pending_bytes": lag.pending_bytes,
            "connected": lag.is_connected,
        },
    }


def title_of(sight: Sight) -> str:
    return _TITLE_SUPERSEDED if sight.role == "superseded" else TITLE


def page_content(sight: Sight) -> str:
    """For people: what this is, where to go instead, and how well it follows."""
    name = html.escape(sight.primary.name) or "its primary"
    lead = (
        f"This site was the primary once. Now {name} is, and nothing is changed here."
        if sight.role == "superseded"
        else f"This is a copy of {name}. Pages and the API are there; Git works here, too."
    )
    facts = [("Role", html.escape(sight.role)), ("Primary", _link(sight) or name)]
    if sight.lag is not None:
        facts.append(("Behind", html.escape(behind(sight))))
    listed = "".join(f"<dt>{term}</dt><dd>{said}</dd>" for term, said in facts)
    return f'<h1>{title_of(sight)}</h1><p class="lead">{lead}</p><dl>{listed}</dl>'


def behind(sight: Sight) -> str:
    """How far the copy is behind, in words."""
    lag = sight.lag
    if lag is None or lag.seconds is None:
        return "not known yet"
    if lag.is_connected and not lag.pending_bytes:
        return "nothing"
    size = f", {lag.pending_bytes:,} bytes are here and not taken in yet" if lag.pending_bytes else ""
    said = f"at most {lag.seconds:.0f} s" if lag.seconds < _MINUTE_S else f"at most {_minutes(lag.seconds)}"
    return said + size if lag.is_connected else f"{said}; the primary is not connected now{size}"


def _minutes(seconds: float) -> str:
    whole = round(seconds / _MINUTE_S)
    return f"{whole // 60} h {whole % 60} min" if whole >= 60 else f"{whole} min"  # noqa: PLR2004 - minutes


def _link(sight: Sight) -> str:
    """Only what a browser may safely follow."""
    url = sight.primary.url
    if not url.startswith(("https://", "http://")):
        return html.escape(url)
    return f'<a href="{html.escape(url, quote=True)}">{html.escape(url)}</a>'
