"""The server's end of the line between sites: who may come in, and what they find.

One port by TLS. Who shows no certificate may join there, by a token, and nothing else. Who shows one of the
built-in CA that is on the list of sites finds the door for sites, and behind it all others: a replica sends
the pushes of its users on to the very door that they would have taken here, and is believed about them.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mainstay import __version__
from mainstay.boot.entrance import App, Door, Receive, Scope, Send
from mainstay.boot.http_protocol import SHOWN
from mainstay.boot.http_server import SitesPort
from mainstay.boot.layout import Layout
from mainstay.boot.membership import identity_of, keep_certificate_fresh, secrets_of
from mainstay.boot.stores import Stores
from mainstay.cluster import schema
from mainstay.cluster.belonging import remembered_instance
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.identity import IdentityUnusable, NodeIdentity
from mainstay.cluster.sites.admission import renewed, texts_of
from mainstay.cluster.sites.bookkeeper import Bookkeeper
from mainstay.cluster.sites.identity import site_id_in
from mainstay.cluster.sites.passes import Passes, SiteRefused
from mainstay.cluster.sites.positions import Positions
from mainstay.cluster.sites.prompt import Prompt
from mainstay.cluster.sites.registry import Site
from mainstay.cluster.station import Sight
from mainstay.cluster.witness.promising import ask_promise
from mainstay.doors.joining import app as joining
from mainstay.doors.sites import app as sites
from mainstay.doors.sites.answers import Answer
from mainstay.doors.sites.objects import ObjectsForSites
from mainstay.doors.sites.settings import SitesSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import NotAllowed, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.settings import from_environment
from mainstay.ops.maintenance.routes import never_closed
from mainstay.ops.sites.memory import Memory
from mainstay.repository.threads import Threads
from mainstay.storage.feed.log import Feed, FeedGone

log = get_logger()

SITE: Final = "mainstay.site"
_THREADS: Final = 16
"""Of their own: where the database hangs, nothing else of this process waits."""
_ANSWER_S_MAX: Final = 30.0
_POSITION: Final = (
    "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text"
)


class SiteLine:
    """What a data process needs to serve the line."""

    def __init__(
        self, stores: Stores, *, sight: Callable[[], Sight], is_draining: Callable[[], bool]
    ) -> None:
        layout = Layout(stores.settings.data)
        self._stores = stores
        self._sight = sight
        self._prompt = Prompt()
        self._passes = Passes(stores.database, prompt=self._prompt)
        self._feed = Feed(layout.feed)
        self._bookkeeper = Bookkeeper(stores.database, Positions(layout.sites))
        self._tls = SitesTls(identity_of(stores))
        self._threads, limits = Threads(_THREADS), SitesSettings()
        self._door = sites.SitesDoor(
            self._desk(),
            ObjectsForSites(stores.objects, limits, self._threads),
            self._feed,
            self._threads,
            clock=SYSTEM,
            settings=limits,
            is_draining=is_draining,
        )
        self._stop_renewing: Callable[[], None] = lambda: None

    @property
    def door(self) -> Door:
        return Door("sites", sites.claims, self._door, never_closed)

    def port(self, listener: Any, entrance: App) -> SitesPort:
        """`entrance` is the ordinary one, with `door` and that of joining before all others."""
        return SitesPort(listener, Gate(entrance, self._passes, self._threads), self._tls.context)

    def start(self) -> None:
        self._bookkeeper.start()
        if from_environment("PROCESS") in (None, "data"):  # one for the whole node
            self._stop_renewing = keep_certificate_fresh(self._stores).set

    def close(self) -> None:
        """In the event loop."""
        self._door.close()
        self._stop_renewing()

    def stop(self) -> None:
        """Blocks."""
        self._bookkeeper.stop()
        self._threads.close()
        self._prompt.close()

    def _desk(self) -> sites.Desk:
        return sites.Desk(
            facts=self._facts,
            is_paused=lambda site: self._state_of(site) == "paused",
            hurries=lambda site: self._passes.known(site).is_waited_for,
            still_in=lambda scope: who(scope, self._passes),
            acknowledge=self._bookkeeper.note,
            renew=self._renewed,
            promise=self._promised,
        )

    def _renewed(self, site_id: str) -> Mapping[str, str]:
        secrets = secrets_of(self._stores)
        return texts_of(renewed(self._stores.database, secrets, site_id, clock=SYSTEM))

    def _promised(self, _site_id: str, epoch: int) -> Mapping[str, Any]:
        """Whoever asks in the name of an old epoch is told no."""
        return asdict(ask_promise(Layout(self._stores.settings.data).run, epoch))

    def _state_of(self, site_id: str) -> str:
        return self._passes.known(site_id).state

    def _facts(self, site_id: str) -> Mapping[str, Any]:
        """Without the database, too: a peer that asks for the epoch must not wait for it."""
        standing = SiteFile(self._stores.settings.data).read()
        sight, you = self._sight(), self._passes.known(site_id)
        return {
            "site": standing.site_id if standing else "",
            "name": standing.own.name if standing and standing.own.site_id == standing.site_id else "",
            "role": sight.role,
            "reason": sight.reason,
            "epoch": _claim(standing.own) if standing else None,
            "highest": _claim(standing.highest) if standing else None,
            "instance": remembered_instance(self._stores.settings.data),
            "version": __version__,
            "release": schema.CURRENT,
            "feed": self._feed_facts(),
            "database": self._position(),
            "now_ms": SYSTEM.now_ms(),
            "said": Memory(self._stores.settings.data).said() if sight.role == "primary" else None,
            "diverged": list(Memory(self._stores.settings.data).diverged().values()),
            "you": {"name": you.name, "state": you.state, "mode": you.mode, "kind": you.kind},
        }

    def _position(self) -> str | None:
        try:
            return self._prompt.ask("its position", lambda: database_position(self._stores))
        except Unavailable:
            return None

    def _feed_facts(self) -> Mapping[str, Any]:
        try:
            return {"identity": self._feed.identity, "end": self._feed.end}
        except FeedGone:
            return {"identity": "", "end": 0}


class Gate:
    """Before everything else on the line."""

    def __init__(self, inside: App, passes: Passes, threads: Threads) -> None:
        self._inside = inside
        self._passes = passes
        self._threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not joining.claims(scope):
            try:
                scope["extensions"][SITE] = (await self._threads.run(who, scope, self._passes)).id
            except NotAllowed as error:
                await Answer(send, silence_s_max=_ANSWER_S_MAX).tell(401, {"message": str(error)}, _CLOSE)
                return
            except Unavailable as error:
                await Answer(send, silence_s_max=_ANSWER_S_MAX).refuse(error)
                return
        await self._inside(scope, receive, send)


_CLOSE: Final = [(b"connection", b"close")]


def who(scope: Scope, passes: Passes) -> Site:
    """Whose request it is. Raises `SiteRefused`, `Unavailable`."""
    shown = scope["extensions"].get(SHOWN)
    site_id = site_id_in(shown[0]) if shown else None
    if site_id is None:
        raise SiteRefused(
            "only other sites come in here, by their certificates; `mainstay replica add` joins"
        )
    return passes.holder(site_id, shown[1])


def is_site(scope: Scope) -> bool:
    """Whether the gate let this request in as that of a site."""
    return SITE in scope.get("extensions", {})


class SitesTls:
    """The server's side of TLS: the certificate of the node, and a look at what the peer shows, if it does.

    Certificate and CA are looked at for each connection; what cannot be used keeps the last ones in use.
    """

    def __init__(self, identity: NodeIdentity) -> None:
        self._identity = identity
        self._seen = self._look()
        self._context = self._made()

    def context(self) -> ssl.SSLContext:
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = self._made()
            except IdentityUnusable as error:
                log.warning("sites.certificate_not_reloaded", because=str(error))
        return self._context

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_cert_chain(self._identity.certificate_file)
            context.load_verify_locations(self._identity.authority_file)
        except (OSError, ssl.SSLError) as error:
            raise IdentityUnusable(f"cannot use {self._identity.certificate_file}: {error}") from error
        return context

    def _look(self) -> list[tuple[int, int] | None]:
        return [_marks(file) for file in (self._identity.certificate_file, self._identity.authority_file)]


def _marks(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def database_position(stores: Stores) -> str | None:
    """Up to where the database has written, or replayed; None when it has no such thing."""
    with stores.database.read() as tx:
        if tx.dialect != "postgresql":
            return None
        row = tx.row(_POSITION)
    return None if row is None or row[0] is None else str(row[0])


def _claim(claim: Any) -> Mapping[str, Any]:
    return {"epoch": claim.epoch, "site": claim.site_id, "name": claim.name, "url": claim.url}
