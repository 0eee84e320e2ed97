"""The heartbeat under the lease: an empty commit on the primary, confirmed like any other."""

import time
from collections.abc import Callable

import psycopg

from mainstay.storage.database import DatabaseAway
from mainstay.storage.database.commits import commit
from mainstay.storage.database.dialing import WRITER_REST_MS, Dialer, rest_limit
from mainstay.storage.database.faults import Connection, raise_family, run_plain
from mainstay.storage.database.lease import Beat, Server
from mainstay.storage.database.newcomers import Newcomers
from mainstay.storage.database.watch import Watch

BEAT_S_MAX = 4.0
"""A primary that cannot commit for so long is none: its connections are cut and another is looked for."""

_BEGIN = (
    b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
    b" SELECT pg_is_in_recovery(), pg_postmaster_start_time(), inet_server_addr(), inet_server_port(), "
    + rest_limit(WRITER_REST_MS)
)
# A message in the log of changes for nobody: it makes the commit one that standbys have to confirm.
_SOMETHING = b"SELECT pg_logical_emit_message(true, 'mainstay', '')"


class Heart:
    """Keeps a connection for its beats. For use by one thread."""

    def __init__(
        self,
        dialer: Dialer,
        watch: Watch,
        newcomers: Newcomers,
        *,
        lost: Callable[[Server | None], None],
        moved: Callable[[Server], None],
    ) -> None:
        """`lost` hears of a server that could not commit, `moved` of one in whose place another commits."""
        self._dialer = dialer
        self._watch = watch
        self._newcomers = newcomers
        self._lost = lost
        self._moved = moved
        self._connection: Connection | None = None
        self._latest: Server | None = None
        self._asked: Server | None = None

    def beat(self) -> Beat:
        """One commit. Raises what says why it was not confirmed."""
        is_kept = self._connection is not None
        try:
            return self._beat()
        except DatabaseAway:
            if not is_kept:
                self._give_up()
                raise
            # Lost is perhaps only this connection.
            self.close()
        except BaseException:
            self._give_up()
            raise
        try:
            return self._beat()
        except BaseException:
            self._give_up()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _beat(self) -> Beat:
        self._asked = None
        if self._connection is None:
            self._connection = self._dialer.dial()
        connection = self._connection
        with self._watch.limited(connection, BEAT_S_MAX):
            try:
                server = self._asked = _begin(connection)
                self._newcomers.record(server, connection)
            except psycopg.Error as error:
                raise_family(error)
            sent_s = time.monotonic()
            commit(connection)
        self._newcomers.recorded(server)
        self._watch.trust(server)
        before, self._latest = self._latest, server
        if before not in (None, server):
            self._moved(before)
        return Beat(server, sent_s)

    def _give_up(self) -> None:
        self.close()
        self._lost(self._asked or self._latest)


def _begin(connection: Connection) -> Server:
    said = run_plain(connection, _BEGIN)
    started = said.get_value(0, 1)
    assert started is not None, "a server that answers has started"
    if said.get_value(0, 0) != b"f":
        raise DatabaseAway("the server that answered is a standby")
    run_plain(connection, _SOMETHING)
    return Server(started, said.get_value(0, 2), said.get_value(0, 3))
