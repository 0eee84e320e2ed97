"""The data plane: Git over HTTP, health and metrics, and the way to the web process.

uvicorn with uvloop and httptools, on the socket that the supervisor opened. Stopping: readiness says 503 for
`drain_notice_seconds` while connections are still taken, then nothing new is taken, and what is under way
has `drain_seconds` to finish.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from mainstay import __version__
from mainstay.boot import child, compose
from mainstay.boot.addresses import http_url
from mainstay.boot.entrance import Door, Entrance, Scope
from mainstay.boot.git import git_service
from mainstay.boot.http_protocol import server_options
from mainstay.boot.layout import Layout
from mainstay.boot.state import process_names, read_state
from mainstay.boot.stores import Stores
from mainstay.boot.watching import dependencies_of
from mainstay.doors.githttp.app import GitHttp
from mainstay.doors.githttp.settings import GitHttpSettings
from mainstay.doors.health import app as health
from mainstay.doors.health.decisions import NodeView
from mainstay.doors.health.watchdog import LoopWatchdog
from mainstay.doors.web.proxy import WebProxy
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import gauge

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
        listener = socket.socket(fileno=child.inherited_socket("HTTP_FD"))
        plane = DataPlane(stores, layout)
        plane.run(listener)


class DataPlane:
    """The application and its server, and how they stop."""

    def __init__(self, stores: Stores, layout: Layout) -> None:
        self._stores = stores
        self._layout = layout
        self._watchdog = LoopWatchdog()
        self._service = git_service(stores)
        self._git = GitHttp(
            service=self._service,
            gate=compose.git_gate(stores),
            settings=GitHttpSettings(idle_s_max=stores.settings.http_idle_seconds),
            clock=SYSTEM,
            clone_url=lambda path: f"{http_url(stores.settings)}/{path}.git",
        )
        self._web = WebProxy(layout.web_socket.relative_to(layout.run))
        self._server = _Server(self._application(), stores.settings.drain_seconds)

    def run(self, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop_soon)
        beat = asyncio.create_task(self._watchdog.beat())
        try:
            await self._server.serve(sockets=[listener])
        finally:
            beat.cancel()
            await self._web.close()
            self._git.close()
            self._service.close()

    def _stop_soon(self) -> None:
        log.info("boot.data_plane_draining")
        self._server.draining = True
        notice_s = self._stores.settings.drain_notice_seconds
        asyncio.get_running_loop().call_later(notice_s, self._server.stop)

    def _application(self) -> Entrance:
        settings = self._stores.settings
        watch = health.HealthDoor(
            dependencies=dependencies_of(self._stores),
            view=self._view,
            before_metrics=self._count_processes,
            allowlist=settings.monitoring_allowlist,
            token=settings.health_token,
        )
        doors = [
            Door("git", _is_git, self._git),
            Door("health", health.claims, watch),
            Door("web", lambda _scope: True, self._web),
        ]
        return Entrance(
            doors, trusted_proxies=settings.trusted_proxies, is_draining=lambda: self._server.draining
        )

    def _count_processes(self) -> None:
        """What the supervisor knows, put among the numbers of the process that is asked for them."""
        state = read_state(self._layout.state)
        running = state.processes if state else {}
        for name in process_names(self._stores.settings.data_processes):
            PROCESS_UP.labels(name).set(name in running and running[name].ready)
            RESTARTS.labels(name).set(running[name].restarts if name in running else 0)

    def _view(self) -> NodeView:
        state = read_state(self._layout.state)
        phase = "draining" if self._server.draining else state.phase if state else "starting"
        return NodeView(phase=phase, loop_lag_s=self._watchdog.lag_s, beat_age_s=self._watchdog.beat_age_s)


class _Server(uvicorn.Server):
    """uvicorn without its own ideas about signals; says when it is ready."""

    def __init__(self, application: Entrance, drain_seconds: int) -> None:
        super().__init__(
            uvicorn.Config(application, timeout_graceful_shutdown=drain_seconds, **server_options())
        )
        self.draining = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        child.say_ready()
        child.set_up_orm_beside()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


def _is_git(scope: Scope) -> bool:
    return GitHttp.claims(scope["raw_path"])


if __name__ == "__main__":
    main()
