"""The door for other sites, under `/-/sites/v1/`:

    GET  facts                              who this site is, and how far
    GET  objects/KEY                        its bytes, then the SHA-256 of what was sent; takes ranges
    POST bundle                             several small objects
    GET  objects?prefix=P                   lines `SIZE KEY`, then `end COUNT`
    GET  feed?identity=I&after=N&wait_s=S   lines of the feed, and the position after them in a header
    POST ack                                how far the asking site is
    POST certificate                        a new one for the asking site
    POST promise                            whether this site waits before it takes over from the asking one

Whoever comes here was let through by `boot.sites`: `scope["extensions"]["mainstay.site"]` is its id. A feed
that begins anew, or has forgotten so much, is answered 410: the site compares everything then.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from mainstay.cluster.sites.positions import Acknowledged, acknowledged_from
from mainstay.cluster.witness import NUMBER_MAX
from mainstay.doors.sites.answers import Answer, PeerStuck, Receive, Scope, Send
from mainstay.doors.sites.changes import Changes
from mainstay.doors.sites.objects import ObjectChanged, ObjectsForSites
from mainstay.doors.sites.settings import SitesSettings
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Conflict, Invalid, MainstayError, NotFound, OutcomeUnknown, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, gauge
from mainstay.foundation.small_body import whole_body
from mainstay.repository.threads import Threads
from mainstay.storage.feed.log import Feed, FeedGone, Page

log = get_logger()

ROOT: Final = "/-/sites/v1/"

_REQUESTS = counter("sites_requests_total", "Requests of other sites.", ["call", "status"])
_SENT = counter("sites_sent_bytes_total", "Bytes of objects and lists sent to other sites.")
_WAITING = gauge("sites_waiting", "Sites that wait for something new.")
_QUERY_FIELDS_MAX = 8
_LOOK_S = 1.0
_NUMBER_DIGITS_MAX = 18


class SitesCrowded(Unavailable):
    """Too much of one kind at the same time."""


class SitePaused(Conflict):
    """The primary was told not to let this site follow."""


class NotUnderstood(Invalid):
    """A request that no site of this release makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the door asks the house. All but the feed block, and run in threads."""

    facts: Callable[[str], Mapping[str, Any]]
    """For the site of that id."""
    is_paused: Callable[[str], bool]
    hurries: Callable[[str], bool]
    """Whether pushes wait for that site."""
    still_in: Callable[[Scope], object]
    """Raises `NotAllowed` when the site was removed meanwhile."""
    acknowledge: Callable[[str, Acknowledged], None]
    renew: Callable[[str], Mapping[str, str]]
    """A certificate for the site, as texts."""
    promise: Callable[[str, int], Mapping[str, Any]]
    """Whether we wait a term before we take over, as a primary asks that the witness does not answer."""


def claims(scope: Scope) -> bool:
    return bool(scope["path"].startswith(ROOT))


class SitesDoor:
    """An ASGI application."""

    def __init__(
        self,
        desk: Desk,
        objects: ObjectsForSites,
        feed: Feed,
        threads: Threads,
        *,
        clock: Clock,
        settings: SitesSettings | None = None,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._desk = desk
        self._objects = objects
        self._feed = feed
        self._threads = threads
        self._clock = clock
        self._settings = settings or SitesSettings()
        self._is_draining = is_draining
        self._changes = Changes(feed.directory)
        self._rooms = {
            "objects": _Room(self._settings.objects_max),
            "listing": _Room(self._settings.listings_max),
            "feed": _Room(self._settings.polls_max),
        }

    def close(self) -> None:
        """Wake up who waits, inside the event loop."""
        self._changes.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(send, silence_s_max=self._settings.silence_s_max)
        call = _call_of(scope)
        try:
            await self._answer(call, scope, receive, answer)
        except (MainstayError, OutcomeUnknown) as error:
            if answer.status:
                raise  # in the middle of a body: the entrance cuts the connection
            await answer.refuse(error)
        except (PeerStuck, ObjectChanged) as cut:
            log.warning("sites.answer_cut", call=call, site_id=_site_id(scope), because=repr(cut))
            raise
        finally:
            _REQUESTS.labels(call, str(answer.status)).inc()
            _SENT.inc(answer.sent_bytes)

    async def _answer(self, call: str, scope: Scope, receive: Receive, answer: Answer) -> None:
        site_id = _site_id(scope)
        if call == "facts":
            await answer.tell(200, await self._threads.run(self._desk.facts, site_id))
        elif call == "objects":
            async with self._rooms["objects"].one():
                key = scope["path"].removeprefix(f"{ROOT}objects/")
                await self._objects.send(key, dict(scope["headers"]).get(b"range"), answer)
        elif call == "bundle":
            async with self._rooms["objects"].one():
                keys = _keys_in(await self._body(receive), most=self._settings.bundled_max)
                await self._objects.send_bundle(keys, answer)
        elif call == "listing":
            self._refuse_paused(site_id)
            async with self._rooms["listing"].one():
                await self._objects.send_list(_query(scope).get("prefix", ""), answer)
        elif call == "feed":
            self._refuse_paused(site_id)
            async with self._rooms["feed"].one():
                await self._send_page(scope, answer)
        elif call == "ack":
            said = acknowledged_from(await self._body(receive), at_ms=self._clock.now_ms())
            await self._threads.run(self._desk.acknowledge, site_id, said)
            await answer.tell(200, {})
        elif call == "certificate":
            await answer.tell(200, await self._threads.run(self._desk.renew, site_id))
        elif call == "promise":
            epoch = _epoch_in(await self._body(receive))
            await answer.tell(200, await self._threads.run(self._desk.promise, site_id, epoch))
        else:
            raise NotFound("there is no such address on the line between sites")

    def _refuse_paused(self, site_id: str) -> None:
        if self._desk.is_paused(site_id):
            raise SitePaused("this site is paused: `mainstay replica resume` on the primary lets it follow")

    async def _send_page(self, scope: Scope, answer: Answer) -> None:
        asked = _query(scope)
        identity, after = asked.get("identity", ""), _number(asked.get("after", ""))
        wait_s = min(_number(asked.get("wait_s", "0")), self._settings.wait_s_max)
        hurries = self._desk.hurries(_site_id(scope))
        gather_s = 0 if hurries else self._settings.gather_s
        with _WAITING.track_inprogress():
            page = await self._page(scope, identity, after, wait_s=wait_s, gather_s=gather_s)
        body = b"".join(entry.line for entry in page.entries)
        headers = [
            (b"content-type", b"text/plain"),
            (b"content-length", b"%d" % len(body)),
            (b"x-mainstay-position", b"%d" % page.position),
            (b"x-mainstay-now-ms", b"%d" % self._clock.now_ms()),
            (b"x-mainstay-hurry", b"%d" % hurries),
        ]
        await answer.begin(200, headers)
        await answer.piece(body, is_last=True)

    async def _page(self, scope: Scope, identity: str, after: int, *, wait_s: float, gather_s: float) -> Page:
        """What follows the position; nothing when nothing came in time. Looks who asks once a second."""
        until_s = self._clock.monotonic_s() + wait_s
        while True:
            change = self._changes.now()
            await self._threads.run(self._desk.still_in, scope)
            page = await self._threads.run(self._look, identity, after)
            left_s = until_s - self._clock.monotonic_s()
            if page.entries or left_s <= 0 or self._is_draining():
                return page
            await self._changes.wait(change, min(left_s, _LOOK_S))
            if change.is_set():
                await asyncio.sleep(gather_s)

    def _look(self, identity: str, after: int) -> Page:
        if self._feed.identity != identity:
            raise FeedGone("the feed of this site has begun anew: compare everything once")
        return self._feed.read(after)

    async def _body(self, receive: Receive) -> object:
        limits = self._settings
        body = await whole_body(receive, bytes_max=limits.body_bytes_max, within_s=limits.body_s_max)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise NotUnderstood("the request is not JSON") from None


class _Room:
    """For so many at once; the next one is sent away at once."""

    def __init__(self, most: int) -> None:
        self._free = most

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        if self._free <= 0:
            raise SitesCrowded("too many requests of this kind at the same time", retry_after_s=1)
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


def _call_of(scope: Scope) -> str:
    """A word of few: it is a label, too."""
    name = scope["path"].removeprefix(ROOT)
    if scope["method"] == "GET":
        if name.startswith("objects/"):
            return "objects"
        return {"facts": "facts", "objects": "listing", "feed": "feed"}.get(name, "none")
    if scope["method"] == "POST":
        return name if name in ("ack", "bundle", "certificate", "promise") else "none"
    return "none"


def _site_id(scope: Scope) -> str:
    return str(scope["extensions"]["mainstay.site"])


def _query(scope: Scope) -> dict[str, str]:
    try:
        text = scope["query_string"].decode("ascii")
        return dict(parse_qsl(text, max_num_fields=_QUERY_FIELDS_MAX, strict_parsing=bool(text)))
    except ValueError:
        raise NotUnderstood("the query cannot be read") from None


def _epoch_in(said: object) -> int:
    epoch = said.get("epoch") if isinstance(said, dict) else None
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 < epoch <= NUMBER_MAX:
        raise NotUnderstood("an epoch is a whole number")
    return epoch


def _keys_in(said: object, *, most: int) -> list[str]:
    keys = said.get("keys") if isinstance(said, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= most or not all(isinstance(k, str) for k in keys):
        raise NotUnderstood(f"a bundle is of 1 to {most} keys")
    return keys


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX):
        raise NotUnderstood(f"{text[:40]!r} is not a whole number")
    return int(text)
