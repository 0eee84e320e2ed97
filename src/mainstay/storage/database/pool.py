"""A few connections for many threads: taken, given back, replaced when they died.

Whoever finds no idle connection makes one in his own thread, and hears at once when that is impossible;
there is no queue that tries again by itself, slower and slower, while the database has long been back.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from psycopg.pq import TransactionStatus

from mainstay.foundation.errors import Unavailable
from mainstay.foundation.metrics import gauge
from mainstay.storage.database.faults import Connection

_IDLE_S_MAX = 300.0
_LIFE_S_MAX = 3600.0
_WAITING_MAX = 1000

_OPEN = gauge("database_connections", "Connections to PostgreSQL, idle or in use.")


@dataclass(frozen=True, slots=True)
class Taken:
    """A connection on loan."""

    connection: Connection
    born_s: float
    is_fresh: bool
    """Made just now: an error on it says something about the server."""
    generation: int


class Pool:
    """At most `connections_max` at a time; more wait, but not longer than `wait_s`."""

    def __init__(self, dial: Callable[[], Connection], *, connections_max: int, wait_s: float) -> None:
        self._dial = dial
        self._places = threading.BoundedSemaphore(connections_max)
        self._connections_max = connections_max
        self._wait_s = wait_s
        self._waiting = 0
        self._idle: deque[tuple[Connection, float, float]] = deque()
        self._generation = 0
        self._is_closed = False

    def take(self) -> Taken:
        """Raises `Unavailable`: none got free; `DatabaseAway`: none could be made."""
        self._enter()
        try:
            return self._idle_one() or self._new_one()
        except BaseException:
            self._places.release()
            raise

    def give_back(self, taken: Taken) -> None:
        """Keep the connection for the next, unless it is broken, old, or from before `forget`."""
        connection, now_s = taken.connection, time.monotonic()
        is_well = connection.pgconn.transaction_status == TransactionStatus.IDLE
        is_current = taken.generation == self._generation and not self._is_closed
        if is_well and is_current and now_s - taken.born_s < _LIFE_S_MAX:
            self._idle.append((connection, taken.born_s, now_s))
        else:
            self._drop(connection)
        self._places.release()
        self._close_old(now_s)

    def forget(self) -> None:
        """Whatever is connected now goes to a server that is not the primary any more."""
        self._generation += 1
        self._drop_idle()

    def close(self) -> None:
        """Close idle connections; those in use are closed when they are given back."""
        self._is_closed = True
        self._drop_idle()

    def _enter(self) -> None:
        if self._is_closed:
            raise Unavailable("the database is closed: this process is stopping")
        if self._places.acquire(blocking=False):
            return
        if self._waiting >= _WAITING_MAX:
            raise Unavailable(f"{_WAITING_MAX} others wait for a connection to the database")
        self._waiting += 1  # nearly exact is enough
        try:
            if not self._places.acquire(timeout=self._wait_s):
                busy = f"all {self._connections_max} connections to the database"
                raise Unavailable(f"{busy} were busy for {self._wait_s:.0f} s")
        finally:
            self._waiting -= 1

    def _idle_one(self) -> Taken | None:
        while True:
            try:
                connection, born_s, _ = self._idle.pop()  # atomic under the GIL, as is append
            except IndexError:
                return None
            if not connection.closed:
                return Taken(connection, born_s, is_fresh=False, generation=self._generation)
            self._drop(connection)

    def _new_one(self) -> Taken:
        generation = self._generation
        connection = self._dial()
        _OPEN.inc()
        return Taken(connection, time.monotonic(), is_fresh=True, generation=generation)

    def _close_old(self, now_s: float) -> None:
        """The ones that nobody needed for long are at the left end."""
        try:
            oldest = self._idle[0]
            if now_s - oldest[2] > _IDLE_S_MAX:
                self._idle.remove(oldest)
                self._drop(oldest[0])
        except (IndexError, ValueError):  # another thread took it
            return

    def _drop_idle(self) -> None:
        while True:
            try:
                connection, _, _ = self._idle.pop()
            except IndexError:
                return
            self._drop(connection)

    @staticmethod
    def _drop(connection: Connection) -> None:
        _OPEN.dec()
        connection.close()
