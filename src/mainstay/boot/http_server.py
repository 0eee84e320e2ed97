"""uvicorn on the sockets of a data process: plain, with TLS, behind proxies that announce their clients.

The plain socket goes to uvicorn itself when no proxy announces anything there, so that the usual way has no
extra step.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from mainstay.boot import child
from mainstay.boot.accepting import Acceptor
from mainstay.boot.entrance import App
from mainstay.boot.http_protocol import AnnouncedHttpProtocol, SiteHttpProtocol, server_options
from mainstay.boot.parsing import DoorName, Networks
from mainstay.boot.settings import NodeSettings
from mainstay.boot.tls import certificate_of
from mainstay.foundation.proxy_header import Endpoint


@dataclass(frozen=True, slots=True)
class DataSockets:
    """What the supervisor has opened for this process."""

    http: socket.socket
    https: socket.socket | None
    health: socket.socket | None
    sites: socket.socket | None


@dataclass(frozen=True, slots=True)
class SitesPort:
    """The line between sites: an application of its own, by TLS only."""

    listener: socket.socket
    application: App
    tls: Callable[[], ssl.SSLContext]


def inherited_sockets() -> DataSockets:
    """By the names of `PublicSockets.inherited_by_data`."""
    http = socket.socket(fileno=child.inherited_socket("HTTP_FD"))
    return DataSockets(http, _offered("HTTPS_FD"), _offered("HEALTH_FD"), _offered("SITES_FD"))


def _offered(name: str) -> socket.socket | None:
    descriptor = child.offered_socket(name)
    return None if descriptor is None else socket.socket(fileno=descriptor)


def announcers(settings: NodeSettings, door: DoorName) -> Networks:
    """Who begins connections to this door with a PROXY header."""
    return settings.proxy_protocol if door in settings.proxy_protocol_on else ()


class HttpServer(uvicorn.Server):
    """uvicorn without its own ideas about signals."""

    def __init__(self, application: App, settings: NodeSettings) -> None:
        options = server_options()
        super().__init__(
            uvicorn.Config(application, timeout_graceful_shutdown=settings.drain_seconds, **options)
        )
        self._settings = settings

    async def serve_on(
        self,
        *,
        http: socket.socket,
        https: socket.socket | None = None,
        sites: SitesPort | None = None,
    ) -> None:
        """Until `stop`."""
        self._https = https
        self._sites = sites
        await self.serve([http])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """`sockets` holds the plain one."""
        assert sockets, "opened by the supervisor"
        proxies = announcers(self._settings, "http")
        await super().startup([] if proxies else sockets)
        if proxies:
            self._also(Acceptor(sockets[0], self._protocol_for, proxies=proxies))
        if self._https:
            certificate = certificate_of(self._settings)
            proxies = announcers(self._settings, "https")
            self._also(Acceptor(self._https, self._protocol_for, proxies=proxies, tls=certificate.context))
        if self._sites:
            self._also(self._line_between_sites(self._sites))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True

    def _also(self, acceptor: Acceptor) -> None:
        """Uvicorn stops it like one of its own: `close`, then `wait_closed`."""
        self.servers.append(acceptor)  # type: ignore[arg-type]  # a list of asyncio's servers

    def _line_between_sites(self, port: SitesPort) -> Acceptor:
        config = uvicorn.Config(port.application, **server_options())
        config.load()

        def protocol_for(_: Endpoint | None) -> asyncio.BaseProtocol:
            return SiteHttpProtocol(config, self.server_state, self.lifespan.state)

        return Acceptor(port.listener, protocol_for, tls=port.tls)

    def _protocol_for(self, client: Endpoint | None) -> asyncio.BaseProtocol:
        protocol = AnnouncedHttpProtocol(self.config, self.server_state, self.lifespan.state)
        protocol.announced = client
        return protocol


class HealthServer(HttpServer):
    """For the port that serves health and metrics only: no PROXY header, no TLS, whoever asks."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await uvicorn.Server.startup(self, sockets)
