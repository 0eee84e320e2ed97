"""Time limits on this side of the connection, for servers that do not answer and do not hang up.

A server that is frozen, cut off, or waits for a standby that never comes keeps its clients waiting, and its
own time limits do not end that: they are not looked at while COMMIT waits. So whoever waits for a server is
written down here with a deadline, and past it the socket is shut down. The thread that waits then sees a lost
connection, which is what it is. Nothing is ever cancelled: a cancelled COMMIT would look like a done one.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg

from mainstay.foundation.logs import get_logger
from mainstay.storage.database.faults import Connection
from mainstay.storage.database.lease import Server

_LOOK_EVERY_S = 0.2
_SILENT_S = 2.0
_LOST_S_MAX = 1.0
"""Who has waited so long for a server that is lost is cut off; most see it by themselves."""
_LOST_MAX = 100
_NEVER_S = float("inf")

log = get_logger()


@dataclass(slots=True)
class Wait:
    """One connection with a statement under way, or between two of one transaction."""

    connection: Connection
    since_s: float
    deadline_s: float
    server: Server | None = None
    may_be_cut: bool = False
    """Cutting it before its time leaves nothing unknown."""


class Watch:
    """All waits of this process on one database. `when_silent` is called when one takes long."""

    def __init__(self, *, when_silent: Callable[[], None] = lambda: None) -> None:
        self._waits: dict[int, Wait] = {}
        self._lost: set[Server] = set()
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._thread: threading.Thread | None = None
        self._when_silent = when_silent
        self._is_closed = False

    def begin(self, connection: Connection, limit_s: float, *, may_be_cut: bool = False) -> Wait:
        """From now on the connection is cut when it does not answer within `limit_s`. Call `end` after."""
        now_s = time.monotonic()
        wait = Wait(connection, now_s, now_s + limit_s, may_be_cut=may_be_cut)
        with self._lock:
            self._waits[id(wait)] = wait
        if not self._something.is_set():
            self._wake()
        return wait

    @staticmethod
    def extend(wait: Wait, limit_s: float) -> None:
        """The server has answered; the next answer has `limit_s`."""
        wait.since_s = time.monotonic()
        wait.deadline_s = wait.since_s + limit_s

    @staticmethod
    def rest(wait: Wait) -> None:
        """The server has answered, and nothing is asked of it for now."""
        wait.since_s = wait.deadline_s = _NEVER_S

    def end(self, wait: Wait) -> None:
        with self._lock:
            self._waits.pop(id(wait), None)

    @contextmanager
    def limited(self, connection: Connection, limit_s: float, server: Server | None = None) -> Iterator[None]:
        wait = self.begin(connection, limit_s)
        wait.server = server
        try:
            yield
        finally:
            self.end(wait)

    def doubt(self, server: Server) -> None:
        """From now on nobody waits long for `server`: it is not the primary any more, or does not say so."""
        with self._lock:
            if len(self._lost) >= _LOST_MAX:
                self._lost.clear()
            self._lost.add(server)

    def trust(self, server: Server) -> None:
        """It is the primary after all."""
        self._lost.discard(server)

    def cut(self, because: str) -> None:
        """Nobody waits any longer whose connection may be cut."""
        with self._lock:
            for wait in self._waits.values():
                if wait.may_be_cut and wait.since_s < _NEVER_S:
                    _hang_up(wait, because)

    def close(self) -> None:
        self._is_closed = True
        self._something.set()

    def _wake(self) -> None:
        with self._lock:
            self._something.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="database-watch", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        while not self._is_closed:
            self._something.wait()
            if self._look_once(time.monotonic()):
                self._when_silent()
            time.sleep(_LOOK_EVERY_S)

    def _look_once(self, now_s: float) -> bool:
        """Hang up where a deadline has passed. Whether somebody waits for an answer suspiciously long."""
        is_silent = False
        with self._lock:
            if not self._waits:
                self._something.clear()
            for wait in self._waits.values():
                if wait.deadline_s < now_s:
                    _hang_up(wait, "the server did not answer in time")
                elif wait.server in self._lost and now_s - wait.since_s > _LOST_S_MAX:
                    _hang_up(wait, "its server is not the primary any more")
                is_silent = is_silent or now_s - wait.since_s > _SILENT_S
        return is_silent


def _hang_up(wait: Wait, because: str) -> None:
    """Called with the lock held, so that the connection is not closed nor its number reused meanwhile."""
    waited_s = round(time.monotonic() - wait.since_s, 1)
    wait.since_s = wait.deadline_s = _NEVER_S
    log.warning("database.connection_cut", reason=because, waited_s=waited_s)
    with (
        suppress(OSError, psycopg.OperationalError),  # it is lost already
        socket.socket(fileno=os.dup(wait.connection.pgconn.socket)) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
