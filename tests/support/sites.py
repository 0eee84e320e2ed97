"""A primary's line between sites on loopback: real TLS, the real gate and door; behind them is a fake."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from mainstay.boot import site_line
from mainstay.boot import sites as boot_sites
from mainstay.boot.entrance import Door, Entrance
from mainstay.boot.http_server import HttpServer
from mainstay.boot.joining import ask
from mainstay.boot.membership import ensure_certificate, secrets_of
from mainstay.boot.parsing import Address
from mainstay.boot.settings import NodeSettings, assemble
from mainstay.boot.sites import ensure_primary
from mainstay.boot.stores import Stores
from mainstay.cluster.belonging import remember_instance
from mainstay.cluster.hints import NoHints
from mainstay.cluster.joining import make_token, parse_token, redeem, unseal
from mainstay.cluster.keyring import KeyRing, new_key, write_keys
from mainstay.cluster.secrets import found
from mainstay.cluster.sites.admission import admit, issued_in, said_by, site_asked
from mainstay.cluster.sites.identity import SiteIdentity
from mainstay.cluster.sites.line import Line
from mainstay.cluster.sites.positions import Positions
from mainstay.cluster.sites.registry import Site
from mainstay.cluster.station import Sight
from mainstay.doors.joining import app as joining
from mainstay.doors.joining.app import JoiningDoor
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.retry import Schedule
from mainstay.ops import settings_store
from mainstay.ops.maintenance.routes import never_closed
from mainstay.storage.feed.log import Feed
from mainstay.storage.feed.store import FedStore
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects.directory import DirectoryStore
from support.databases import migrated_sqlite

IMPATIENT = Schedule(attempts_max=2, first_pause_s=0.01, pause_max_s=0.01)


class Primary:
    """A site with everything but a database that can be followed, and who listens to others."""

    def __init__(self, data: Path, template: Path) -> None:
        data.mkdir()
        (data / "run").mkdir()
        self.database = migrated_sqlite(template, data / "mainstay.db")
        keyring = KeyRing([new_key()])
        write_keys(data, keyring)
        found(self.database, keyring, now_ms=1)
        settings_store.ensure(self.database, settings_store.INSTANCE_ID, new_ulid)
        listening = assemble(data, [{"sites": "127.0.0.1:0", "node_name": "berlin"}])
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        self.settings: NodeSettings = replace(listening, sites=Address("127.0.0.1", port))
        self.feed = Feed(data / "feed")
        self.feed.begin()
        self.positions = Positions(data / "run" / "sites")
        self.positions.begin()
        self.inner = DirectoryStore(data / "objects")
        self.objects = FedStore(self.inner, self.feed, clock=SYSTEM)
        self.stores = Stores(
            settings=self.settings,
            database=self.database,
            ledger=SqlLedger(self.database, SYSTEM),
            objects=self.objects,
            hints=NoHints(),
        )
        instance = settings_store.read(self.database, settings_store.INSTANCE_ID)
        assert instance is not None
        remember_instance(data, instance)
        self.site = ensure_primary(self.stores)
        ensure_certificate(self.stores)
        self.seen: list[dict[str, Any]] = []
        self.data = data

    @property
    def address(self) -> str:
        return str(self.settings.sites)

    def token(self, kind: Any = "replica") -> str:
        made = make_token(self.database, secrets_of(self.stores), by="test", ttl_ms=600_000, kind=kind)
        return made.text.reveal()

    def line(self, data: Path, **options: Any) -> Line:
        """The client's end, of a site whose files are in `data`."""
        given = {"site_id": self.site.id, "patience": IMPATIENT, "silence_s_max": 20.0, **options}
        return Line(given.pop("address", self.address), SiteIdentity(data), **given)

    def let_node_in(self, token_id: str, proof: str, at: str) -> str:
        """As `boot.inviting` does, whatever the database is."""
        secrets = secrets_of(self.stores)
        bundle = boot_sites._bundle(self.stores)
        return redeem(self.database, secrets, bundle, token_id=token_id, proof=proof, at=at)

    def let_site_in(self, token_id: str, proof: str, at: str, said: object) -> str:
        """As `boot.sites` does, whatever the database is."""
        return admit(
            self.database,
            secrets_of(self.stores),
            boot_sites._bundle(self.stores),
            site_asked(said),
            token_id=token_id,
            proof=proof,
            at=at,
            clock=SYSTEM,
        )

    async def ordinary(self, scope: Any, receive: Any, send: Any) -> None:
        """What stands for all other doors: keeps what it was told about the request."""
        self.seen.append({**scope, "headers": dict(scope["headers"])})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ordinary"})


@contextmanager
def serving(primary: Primary) -> Iterator[None]:
    """The line, in a thread, until the end of the block."""
    loop_ready = threading.Event()
    stop: list[Callable[[], None]] = []

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as in life
            runner.run(_serve(primary, stop, loop_ready))

    thread = threading.Thread(target=run, name="primary")
    thread.start()
    assert loop_ready.wait(60), "the server did not start"
    try:
        yield
    finally:
        stop[0]()
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"
        primary.database.close()


async def _serve(primary: Primary, stop: list[Callable[[], None]], ready: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    line = site_line.SiteLine(
        primary.stores, sight=lambda: Sight("primary", "it is one"), is_draining=lambda: server.should_exit
    )
    welcome = JoiningDoor(primary.let_node_in, admit=primary.let_site_in, clock=SYSTEM)
    join = Door("joining", joining.claims, welcome, never_closed)
    doors = [line.door, join, Door("ordinary", lambda _: True, primary.ordinary, never_closed)]
    entrance = Entrance(doors, trusted_proxies=(), is_draining=lambda: False, vouched=site_line.is_site)

    class Server(HttpServer):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    server = Server(primary.ordinary, primary.settings)
    plain = socket.create_server(("127.0.0.1", 0))

    def end() -> None:
        line.close()
        server.stop()

    stop.append(lambda: loop.call_soon_threadsafe(end))
    line.start()
    await server.serve_on(http=plain, sites=line.port(primary.listener, entrance))
    await asyncio.to_thread(line.stop)


def joined(primary: Primary, data: Path, **facts: Any) -> Site:
    """A site that was let in over the line, by a token, and has its certificate in `data`."""
    site = Site(**{"id": new_ulid(), "name": data.name, **facts})
    data.mkdir(exist_ok=True)
    token = parse_token(primary.token(), "replica")
    bundle = unseal(token, ask(f"https://{primary.address}/-/join", token, site=said_by(site)))
    assert bundle.site["primary_id"] == primary.site.id
    SiteIdentity(data).keep(issued_in(bundle.site))
    return site
