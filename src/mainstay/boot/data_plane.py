"""The data plane: Git over HTTP, health and metrics, and the way to the web process.

uvicorn with uvloop and httptools, on the socket that the supervisor opened. Stopping: readiness says 503 for
`drain_notice_seconds` while connections are still taken, then nothing new is taken, and what is under way
has `drain_seconds` to finish.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from mainstay import __version__
from mainstay.boot import child, compose
from mainstay.boot.addresses import http_url
from mainstay.boot.degraded import fallback_of
from mainstay.boot.disk import DiskWatch
from mainstay.boot.entrance import Door, Entrance, Scope
from mainstay.boot.forwarding import Forwarding, Taking
from mainstay.boot.git import git_service
from mainstay.boot.http_server import DataSockets, HealthServer, HttpServer, SitesPort, inherited_sockets
from mainstay.boot.inviting import joining_door
from mainstay.boot.layout import Layout
from mainstay.boot.maintenance import lookout_of
from mainstay.boot.roles import not_served
from mainstay.boot.site_line import SiteLine, is_site
from mainstay.boot.sites import admit_site
from mainstay.boot.state import Phase, process_names, read_state
from mainstay.boot.station import station_of
from mainstay.boot.stores import Stores, begin_hold_s
from mainstay.boot.vitals import Vitals
from mainstay.boot.watching import dependencies_of
from mainstay.cluster.station import Sight
from mainstay.doors.forwarded.app import ForwardedDoor
from mainstay.doors.githttp.app import GitHttp
from mainstay.doors.githttp.replica import ReplicaGit, is_under_a_repository
from mainstay.doors.githttp.settings import GitHttpSettings
from mainstay.doors.health import app as health
from mainstay.doors.health.decisions import NodeView
from mainstay.doors.health.watchdog import LoopWatchdog
from mainstay.doors.joining import app as joining
from mainstay.doors.passive.app import PrimaryOnly
from mainstay.doors.web.closed import Front
from mainstay.doors.web.headers import SAFETY
from mainstay.doors.web.pages import STYLE, STYLE_PATH, page
from mainstay.doors.web.proxy import WebProxy
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import gauge
from mainstay.ops.maintenance.routes import deed_of_git, never_closed
from mainstay.storage.database.fence import fence_of

log = get_logger()

PROCESS_UP = gauge(
    "process_up", "Whether a process of the node does its work.", ["name"], across="livemostrecent"
)
RESTARTS = gauge("process_restarts", "How often it was started again.", ["name"], across="livemostrecent")
BUILD = gauge("build_info", "Which program this is; always 1.", ["version"], across="max")


def main() -> None:
    with child.begun("data", orm=False) as stores:
        layout = Layout(stores.settings.data)
        os.chdir(layout.run)  # the path of a Unix socket has 107 bytes at most; a relative one always fits
        BUILD.labels(__version__).set(1)
        plane = DataPlane(stores, layout)
        plane.run(inherited_sockets())


class DataPlane:
    """The application and its server, and how they stop."""

    def __init__(self, stores: Stores, layout: Layout) -> None:
        self._stores = stores
        self._layout = layout
        self._watchdog = LoopWatchdog()
        self._vitals = Vitals(stores, phase=self._phase)
        self._disk = DiskWatch(layout.cache)
        self._maintenance = lookout_of(stores)
        self._station = station_of(stores.settings)
        self._fallback = fallback_of(stores)
        self._service = git_service(stores, fallback=self._fallback)
        gate = compose.git_gate(stores, self._fallback)
        self._forwarding = Forwarding(stores, self._station)
        self._taking = Taking(
            stores,
            gate=gate,
            service=self._service,
            maintenance=self._maintenance,
            forwarding=self._forwarding,
        )
        self._git = GitHttp(
            service=self._service,
            gate=gate,
            settings=GitHttpSettings(
                idle_s_max=stores.settings.http_idle_seconds, hold_s=begin_hold_s(stores.settings)
            ),
            clock=SYSTEM,
            clone_url=lambda path: f"{http_url(stores.settings)}/{path}.git",
        )
        self._line = self._site_line() if stores.settings.sites else None
        self._web = WebProxy(layout.web_socket.relative_to(layout.run))
        self._watch = self._health_door()
        self._doors = self._all_doors()
        self._server = _Server(self._application(), stores.settings)

    def run(self, sockets: DataSockets) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve(sockets))

    async def _serve(self, sockets: DataSockets) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop_soon)
        beat = asyncio.create_task(self._watchdog.beat())
        self._vitals.start()
        self._disk.start()
        await asyncio.to_thread(self._maintenance.start)
        await asyncio.to_thread(self._station.start)
        self._stores.hints.start()
        if self._fallback:
            self._fallback.start()
        if self._line:
            self._line.start()
        try:
            async with self._health_port(sockets.health):
                await self._server.serve_on(
                    http=sockets.http, https=sockets.https, sites=self._sites_port(sockets.sites)
                )
        finally:
            if self._line:
                await asyncio.to_thread(self._line.stop)
            self._disk.stop()
            await asyncio.to_thread(self._maintenance.stop)
            await asyncio.to_thread(self._station.stop)
            await self._vitals.stop()
            beat.cancel()
            await self._web.close()
            self._git.close()
            await self._forwarding.finish()
            self._forwarding.close()
            self._taking.close()
            await self._service.finish()
            self._service.close()
            if self._fallback:
                self._fallback.close()

    def _stop_soon(self) -> None:
        log.info("boot.data_plane_draining")
        self._server.draining = True
        if self._line:
            self._line.close()
        notice_s = self._stores.settings.drain_notice_seconds
        asyncio.get_running_loop().call_later(notice_s, self._server.stop)

    @asynccontextmanager
    async def _health_port(self, listener: socket.socket | None) -> AsyncIterator[None]:
        """Open to the end of the drain, when the other ports take nobody any more."""
        if listener is None:
            yield
            return
        doors = [
            Door("health", health.claims, self._watch, never_closed),
            Door("none", lambda _scope: True, health.nothing_here),
        ]
        server = HealthServer(self._entrance(doors), self._stores.settings)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield
        finally:
            server.stop()
            await serving

    def _health_door(self) -> health.HealthDoor:
        settings = self._stores.settings
        return health.HealthDoor(
            dependencies=dependencies_of(self._stores),
            view=self._view,
            before_metrics=self._count_processes,
            allowlist=settings.monitoring_allowlist,
            token=settings.health_token,
            is_well=self._vitals.watch.is_well,
            peer_token=self._vitals.peer_token,
            maintenance=lambda: self._maintenance.mode.value,
            passive_is_ready=settings.replica_readiness == "serve-git",
        )

    def _site_line(self) -> SiteLine:
        return SiteLine(
            self._stores, sight=lambda: self._station.now, is_draining=lambda: self._server.draining
        )

    def _sites_port(self, listener: socket.socket | None) -> SitesPort | None:
        """The line between sites: its own door, and behind it all that others find here."""
        if listener is None or self._line is None:
            return None
        taking = Door("forwarded", ForwardedDoor.claims, self._taking.door, never_closed)
        entrance = self._entrance([taking, self._line.door, *self._doors], vouched=is_site)
        return self._line.port(listener, entrance)

    def _application(self) -> Entrance:
        return self._entrance(self._doors)

    def _all_doors(self) -> Sequence[Door]:
        watch = Door("health", health.claims, self._watch, never_closed)
        roles = self._stores.settings.roles
        admit = admit_site(self._stores)
        join = Door("joining", joining.claims, joining_door(self._stores, admit), never_closed)
        if "web" not in roles:
            return [watch, join, Door("none", lambda _scope: True, not_served(roles))]
        people = PrimaryOnly(
            self._web,
            sight=lambda: self._station.now,
            page=page,
            style=(STYLE_PATH, STYLE),
            headers=SAFETY,
            reads=self._stores.settings.replica_pages == "read-only",
        )
        replica = ReplicaGit(self._git, self._forwarding.chooser, clock=SYSTEM)
        git, web = Door("git", self._is_git, replica, deed_of_git), Door("web", lambda _scope: True, people)
        return [git, watch, join, web]

    def _entrance(
        self, doors: Sequence[Door], *, vouched: Callable[[Scope], bool] = lambda _: False
    ) -> Entrance:
        return Entrance(
            doors,
            trusted_proxies=self._stores.settings.trusted_proxies,
            is_draining=lambda: self._server.draining,
            front=Front(self._maintenance),
            vouched=vouched,
        )

    def _count_processes(self) -> None:
        """What the supervisor knows, put among the numbers of the process that is asked for them."""
        state = read_state(self._layout.state)
        running = state.processes if state else {}
        settings = self._stores.settings
        for name in process_names(
            settings.data_processes,
            settings.roles,
            rpc=settings.rpc is not None,
            database=settings.database_is_managed,
            sites=settings.sites is not None,
        ):
            PROCESS_UP.labels(name).set(name in running and running[name].ready)
            RESTARTS.labels(name).set(running[name].restarts if name in running else 0)

    def _is_git(self, scope: Scope) -> bool:
        """A replica sends on all that is below a repository, whatever its program knows of it."""
        if self._station.now.is_passive:
            return is_under_a_repository(scope["raw_path"])
        return GitHttp.claims(scope["raw_path"])

    def _view(self) -> NodeView:
        verdict, sight = self._vitals.watch.verdict, self._station.now
        return NodeView(
            phase=self._phase(),
            loop_lag_s=self._watchdog.lag_s,
            beat_age_s=self._watchdog.beat_age_s,
            problem=self._disk.problem if verdict.takes_traffic else verdict.because,
            role=_role_of(sight),
            primary=sight.primary.url,
            lag_s=sight.lag.seconds if sight.lag else 0.0,
            lease_over_s=fence_of(self._stores.settings.data).lease_over_s(),
        )

    def _phase(self) -> Phase:
        if self._server.draining:
            return "draining"
        state = read_state(self._layout.state)
        return state.phase if state else "starting"


class _Server(HttpServer):
    """Says when it is ready, and remembers that it is to stop."""

    draining = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        child.say_ready()
        child.set_up_orm_beside()


def _role_of(sight: Sight) -> str:
    """In the words of balancers, which know `active` and `passive`."""
    if sight.role == "primary":
        return "active" if sight.primary.epoch else "single"
    return "passive" if sight.role == "replica" else "superseded"


if __name__ == "__main__":
    main()
