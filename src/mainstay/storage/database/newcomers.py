"""Servers seen for the first time as the primary: their first writers wait until old leases have ended."""

import threading
import time
from collections.abc import Callable

import psycopg

from mainstay.foundation.logs import get_logger
from mainstay.storage.database.faults import Connection, raise_family, run_plain
from mainstay.storage.database.lease import Server, pause_s

_FIRST_TIMELINE = 1
_REMEMBERED_MAX = 100

_ID = (
    "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text || '@' ||"
    " coalesce(host(inet_server_addr()), 'local') || ':' || coalesce(inet_server_port(), 0)::text"
)
_ASK = (
    f"SELECT {_ID}, to_regclass('cluster_lease') IS NOT NULL,"
    " ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint"
).encode()
_ASK_WITHOUT_TIMELINE = f"SELECT {_ID}, to_regclass('cluster_lease') IS NOT NULL, 0".encode()

log = get_logger()


class Newcomers:
    """Which servers this process has waited for, or has found that somebody else has."""

    def __init__(
        self,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock_s = clock_s
        self._sleep = sleep
        self._lock = threading.Lock()
        self._first_seen_s: dict[Server, float] = {}
        self._known: set[Server] = set()
        self._unrecorded: dict[Server, str] = {}

    def knows(self, server: Server) -> bool:
        return server in self._known

    def meet(self, server: Server, connection: Connection) -> None:
        """Return when a commit on `server` may be confirmed. `connection` has a transaction open there."""
        with self._lock:
            self._forget_old()
            seen_s = self._first_seen_s.setdefault(server, self._clock_s())
        id_, is_settled = _look(connection)
        if not is_settled:
            left_s = pause_s(seen_s, self._clock_s())
            log.info("database.newcomer_awaited", server=id_, seconds=round(left_s, 2))
            self._sleep(left_s)
        with self._lock:
            self._known.add(server)
            if not is_settled:
                self._unrecorded[server] = id_

    def record(self, server: Server, connection: Connection) -> None:
        """In a transaction on `server`: note for other processes that it was waited for."""
        id_ = self._unrecorded.get(server)
        if id_ is None:
            return
        connection.execute(
            "INSERT INTO cluster_lease (id, beat_ms)"
            " VALUES (%s, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)"
            " ON CONFLICT (id) DO NOTHING",
            (id_,),
        )

    def recorded(self, server: Server) -> None:
        """That transaction has committed."""
        self._unrecorded.pop(server, None)

    def _forget_old(self) -> None:
        if len(self._first_seen_s) > _REMEMBERED_MAX:
            for past in (self._first_seen_s, self._known, self._unrecorded):
                past.clear()


def _look(connection: Connection) -> tuple[str, bool]:
    """The name of this life of the server, and whether nobody needs to wait for it."""
    run_plain(connection, b"SAVEPOINT newcomer")
    try:
        id_, has_table, timeline = _values(connection, _ASK)
    except psycopg.errors.FeatureNotSupported:
        # Some services have no log files to name: their timeline is not known.
        run_plain(connection, b"ROLLBACK TO SAVEPOINT newcomer")
        id_, has_table, timeline = _values(connection, _ASK_WITHOUT_TIMELINE)
    except psycopg.Error as error:
        raise_family(error)
    if has_table != "t" or int(timeline) == _FIRST_TIMELINE:
        return id_, True
    found = connection.execute("SELECT 1 FROM cluster_lease WHERE id = %s", (id_,)).fetchone()
    return id_, found is not None


def _values(connection: Connection, question: bytes) -> list[str]:
    said = run_plain(connection, question)
    return [(said.get_value(0, column) or b"").decode() for column in range(3)]
