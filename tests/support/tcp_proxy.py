"""A TCP proxy in front of a server, which tests can cut, stall and heal.

    with TcpProxy("127.0.0.1", server_port) as proxy:
        the client connects to 127.0.0.1:proxy.port
        proxy.cut()      # as if the server had gone: connections are reset, new ones refused
        proxy.stall()    # as if it were frozen: connections are taken, bytes too, and nothing is answered
        proxy.heal()     # as before; what was held is passed on

Needs no root and no network of its own. Two threads for each connection.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from support.ports import free_port

_CHUNK_BYTES = 1 << 16
_TICK_S = 0.1
_CONNECT_S_MAX = 5.0
Result = TypeVar("Result")
_RESET = struct.pack("ii", 1, 0)
"""To linger for no time at all: `close` sends a reset."""


class TcpProxy:
    """Listens on a free port of 127.0.0.1 until it is closed."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self.port = free_port()
        self.connections = 0
        """How many there have been."""
        self._listen()
        self._thread = threading.Thread(target=self._accept_until_closed, name="tcp-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._flowing.set()
        self._thread.join()
        self._stop_listening()
        self.reset()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Refuse what comes, reset what there is."""
        self._stop_listening()
        self.reset()

    def reset(self) -> None:
        """Reset what there is; new connections are fine."""
        with self._lock:
            ends, self._ends = self._ends, set()
        for end in ends:  # all before the first is closed: the relay closes the other end when one is gone
            _end_by_reset(end)
        for end in ends:
            end.close()

    def stall(self) -> None:
        """Take connections and bytes, and pass nothing on."""
        self._flowing.clear()

    def heal(self) -> None:
        """Pass everything on again."""
        self._flowing.set()
        with self._lock:
            if self._listener is None:
                self._listen()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        listener.settimeout(_TICK_S)
        self._listener = listener

    def _stop_listening(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            # Wakes up whoever waits in `accept`, which `close` alone does not.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept_until_closed(self) -> None:
        while not self._closing.is_set():
            listener = self._listener
            if listener is None:
                self._closing.wait(_TICK_S)
                continue
            try:
                client, _ = listener.accept()
            except OSError:  # nobody came, or it was cut
                continue
            self.connections += 1
            self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server, timeout=_CONNECT_S_MAX)
        except OSError:
            _reset(client)
            return
        for end in (client, server):
            end.settimeout(_TICK_S)
        with self._lock:
            self._ends |= {client, server}
        threading.Thread(target=self._relay, args=(client, server), daemon=True).start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        """Both ways of one connection, until both have ended."""
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)
        back.join()
        with self._lock:
            self._ends -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        """One way. A socket that `reset` has closed is an `OSError` within a tick."""
        try:
            while chunk := _until_done(lambda: source.recv(_CHUNK_BYTES)):
                self._flowing.wait()
                while chunk:
                    chunk = chunk[_until_done(partial(target.send, chunk)) :]
            self._flowing.wait()
            target.shutdown(socket.SHUT_WR)
        except OSError:
            # One way is lost, so is the other: nobody should wait for it.
            source.close()
            target.close()


def _until_done(step: Callable[[], Result]) -> Result:
    """In short waits: closing a socket wakes nobody up, and the wire does not see it before they are up."""
    while True:
        try:
            return step()
        except TimeoutError:
            continue


def _reset(end: socket.socket) -> None:
    """The other side sees a reset."""
    _end_by_reset(end)
    end.close()


def _end_by_reset(end: socket.socket) -> None:
    """Whoever closes it."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
