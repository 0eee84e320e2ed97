"""The process that serves Git to other nodes: uvicorn with TLS on the socket that the supervisor opened.

There is no plaintext here, on no address: who speaks anything but TLS is cut off in the handshake. Stopping
is like in the data plane: for `drain_notice_seconds` new requests are told to go elsewhere (503), then
nothing new is taken, and what is under way has `drain_seconds` to finish.
"""

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import uvicorn

from mainstay.boot import child, membership
from mainstay.boot.degraded import fallback_of
from mainstay.boot.git import content_for_nodes, local_git_service
from mainstay.boot.http_protocol import server_options
from mainstay.boot.stores import Stores
from mainstay.cluster.rpc_tokens import TokenPair, token_pair
from mainstay.doors.nodes.app import NodeDoor, Scope
from mainstay.doors.nodes.settings import NodesSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.logs import get_logger
from mainstay.repository.remote.incoming import Receive
from mainstay.repository.remote.kept import Kept
from mainstay.repository.remote.outgoing import Send

log = get_logger()

_TOKENS_FRESH_S = 5.0


def main() -> None:
    with child.begun("rpc", orm=False) as stores:
        listener = socket.socket(fileno=child.inherited_socket("RPC_FD"))
        renewing = membership.keep_certificate_fresh(stores)
        server = RpcServer(
            lambda: serving_door(stores, lambda: server.draining),
            membership.identity_of(stores).server_context(),
            drain_notice_s=stores.settings.drain_notice_seconds,
            drain_s=stores.settings.drain_seconds,
            ready=child.say_ready,
        )
        server.run_on(listener)
        renewing.set()


def serving_door(stores: Stores, is_draining: Callable[[], bool]) -> "Serving":
    """The door over the Git service of this node."""
    fallback = fallback_of(stores)
    service = local_git_service(stores, fallback=fallback)
    secrets = membership.secrets_of(stores)
    tokens: Kept[TokenPair] = Kept(lambda: token_pair(secrets), fresh_s=_TOKENS_FRESH_S, clock=SYSTEM)
    with ExitStack() as stack:
        if fallback:
            stack.callback(fallback.close)
        stack.callback(service.close)
        door = NodeDoor(
            service=service,
            content=stack.enter_context(content_for_nodes(stores, service.copies)),
            tokens=tokens,
            settings=NodesSettings(),
            clock=SYSTEM,
            is_draining=is_draining,
        )
        if fallback:
            fallback.start()
        return Serving(door, stack.pop_all().close)


class Serving:
    """A door, and what to close after it."""

    def __init__(self, door: NodeDoor, close: Callable[[], None]) -> None:
        self._door = door
        self.close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door(scope, receive, send)


class RpcServer(uvicorn.Server):
    """uvicorn with our TLS context and without its own ideas about signals."""

    def __init__(
        self,
        application: Callable[[], Serving],
        context: ssl.SSLContext,
        *,
        drain_notice_s: float,
        drain_s: int,
        ready: Callable[[], None],
    ) -> None:
        self._serving = application()
        super().__init__(
            uvicorn.Config(
                self._serving,
                ssl_context_factory=lambda _config, _default: context,
                timeout_graceful_shutdown=drain_s,
                **server_options(),
            )
        )
        self._drain_notice_s = drain_notice_s
        self._ready = ready
        self.draining = False

    def run_on(self, listener: socket.socket) -> None:
        """Serve until SIGTERM."""
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            runner.run(self._until_stopped(listener))

    async def _until_stopped(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop_soon)
        try:
            await self.serve(sockets=[listener])
        finally:
            self._serving.close()

    def stop_soon(self) -> None:
        log.info("boot.rpc_draining")
        self.draining = True
        asyncio.get_running_loop().call_later(self._drain_notice_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


if __name__ == "__main__":
    main()
