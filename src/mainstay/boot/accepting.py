"""Accept connections that begin with something else: a PROXY header, then perhaps TLS.

A peer in `proxies` must begin each connection with a PROXY header, within `HEADER_SECONDS_MAX`; otherwise
the connection is closed. From anybody else such a header is nothing special, and the protocol that follows
refuses it. Exactly the header is taken from the socket, so the event loop builds its usual transport (with
TLS where wanted) on what comes after it, and nothing stands between the two later.

Ports that need neither are served by the event loop directly; this module is not on their way.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

from mainstay.boot.forwarded import is_trusted
from mainstay.boot.parsing import Networks
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter
from mainstay.foundation.proxy_header import V2_BYTES_MAX, BadProxyHeader, Endpoint, read_header

log = get_logger()

HEADER_SECONDS_MAX = 15.0
"""For the PROXY header, and again for the TLS handshake."""
_BEGINNING_MAX = 2048
"""Connections at once that have not come as far as their protocol; the next ones wait in the kernel."""
_ACCEPTED_PER_TURN_MAX = 32
_REST_S = 0.25
_LAST_BEGINNING_S_MAX = 1.0

_REFUSED = counter(
    "connections_refused_total", "Connections closed before their protocol began, by reason.", ["reason"]
)

ProtocolFor = Callable[[Endpoint | None], asyncio.BaseProtocol]
"""Makes the protocol of a connection, given the client that a proxy has announced."""


class Acceptor:
    """Serves one listening socket until `close`; made inside the running event loop."""

    def __init__(
        self,
        listener: socket.socket,
        protocol_for: ProtocolFor,
        *,
        proxies: Networks = (),
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._listener = listener
        self._protocol_for = protocol_for
        self._proxies = proxies
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._closed = False
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Take no more connections. Those that were taken go on."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listener)
            self._listener.close()

    async def wait_closed(self) -> None:
        """After `close`: until every connection has its protocol. Who has not begun by then never will."""
        if self._beginning:
            await asyncio.wait(self._beginning, timeout=_LAST_BEGINNING_S_MAX)
        for task in self._beginning:
            task.cancel()

    def _accept(self) -> None:
        """The socket has connections. Takes some of them, so that others get their turn of the loop."""
        for _ in range(_ACCEPTED_PER_TURN_MAX):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors are left: somebody has to go first
                log.warning("boot.accept_failed", reason=str(error))
                self._rest()
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._begun)
        if len(self._beginning) >= _BEGINNING_MAX:
            self._rest()

    def _rest(self) -> None:
        self._loop.remove_reader(self._listener)
        self._loop.call_later(_REST_S, self._go_on)

    def _go_on(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener, self._accept)

    def _begun(self, task: asyncio.Task[None]) -> None:
        self._beginning.discard(task)
        if not task.cancelled() and (bug := task.exception()):
            log.error("boot.connection_crashed", exc_info=bug)

    async def _begin(self, connection: socket.socket) -> None:
        """From the bare socket to its protocol; closes the socket if it does not come that far."""
        handed_over = False
        try:
            client = await self._announced(connection)
            await self._hand_over(connection, client)
            handed_over = True
        except BadProxyHeader as error:
            _refuse("proxy_header", error)
        except TimeoutError as error:
            _refuse("too_slow", error)
        except OSError as error:  # also of TLS: a stranger that speaks something else is no news
            _refuse("hung_up", error)
        finally:
            if not handed_over:
                connection.close()

    async def _announced(self, connection: socket.socket) -> Endpoint | None:
        """The client, if the peer is a proxy that says who it is. Raises `BadProxyHeader`."""
        peer = connection.getpeername()[0]
        if not is_trusted(peer, self._proxies):
            return None
        async with asyncio.timeout(HEADER_SECONDS_MAX):
            return await self._read_header(connection)

    async def _read_header(self, connection: socket.socket) -> Endpoint | None:
        """Look, then take what belongs to the header: what follows is not ours to read."""
        seen = b""
        while True:
            await self._until_readable(connection)
            ahead = connection.recv(V2_BYTES_MAX, socket.MSG_PEEK)
            if not ahead:
                raise BadProxyHeader("hung up before the end of the PROXY header")
            header = read_header(seen + ahead)
            own_bytes = len(ahead) if header is None else header.length_bytes - len(seen)
            seen += connection.recv(own_bytes)
            if header is not None:
                return header.source

    async def _until_readable(self, connection: socket.socket) -> None:
        readable = self._loop.create_future()
        self._loop.add_reader(connection, _say, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(connection)

    async def _hand_over(self, connection: socket.socket, client: Endpoint | None) -> None:
        context = self._tls() if self._tls else None
        await self._loop.connect_accepted_socket(
            lambda: self._protocol_for(client),
            connection,
            ssl=context,
            ssl_handshake_timeout=HEADER_SECONDS_MAX if context else None,
        )


def _say(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)


def _refuse(reason: str, error: Exception) -> None:
    _REFUSED.labels(reason).inc()
    log.debug("boot.connection_refused", reason=reason, says=str(error))
