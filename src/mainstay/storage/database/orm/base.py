"""Django's connection to PostgreSQL, which knows what `postgresql` knows.

- It connects to the server that `dialing` found, and asks once per request, where Django asks anyway whether
  the connection still lives, whether that server is still the primary (`lease`).
- Limits of time are set in each transaction, so they hold behind a pooler, too; and the wait for each answer
  ends here when the server says nothing (`watch`).
- A COMMIT that was lost or not replicated raises `OutcomeUnknown`, never anything that sounds like a failure.

Not here: reads by ORM are not proved one by one. Between the question at the start of a request and its end
they can be as old as the request.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from django.db import DatabaseError, InterfaceError, InternalError, OperationalError
from django.db.backends.postgresql import base

from mainstay.foundation.errors import OutcomeUnknown
from mainstay.storage.database import DatabaseAway
from mainstay.storage.database.commits import COMMIT_S_MAX, refusing_unreplicated
from mainstay.storage.database.dialing import WRITER_REST_MS, is_pooled, limits
from mainstay.storage.database.faults import GAVE_UP_ON_US, Connection, raise_family, run_plain
from mainstay.storage.database.fence import SiteFenced, fence_named
from mainstay.storage.database.lease import Server
from mainstay.storage.database.orm.fencing import asking_in_autocommit
from mainstay.storage.database.postgresql import (
    ANSWER_S_MAX,
    BEGIN_READ,
    BEGIN_S_MAX,
    WHO,
    PostgresqlDatabase,
    answerer_in,
    opened,
    server_in,
    who_writes,
)


class DatabaseWrapper(base.DatabaseWrapper):
    """`settings_dict["URL"]` is ours, `NAME` and the rest say the same to Django."""

    rest_ms = WRITER_REST_MS
    """How long a transaction may be open without a statement. A migration needs more."""

    def __init__(self, settings_dict: dict[str, Any], alias: str = "default") -> None:
        super().__init__(settings_dict, alias)
        self._fence = fence_named(settings_dict.get("FENCE", ""))
        self.execute_wrappers.append(asking_in_autocommit(self._fence))
        self.execute_wrappers.append(self._within_limits)

    @property
    def guide(self) -> PostgresqlDatabase:
        """Who knows where the primary is: shared by all of this process."""
        return opened(self.settings_dict["URL"], fence=self._fence)

    def get_new_connection(self, conn_params: Mapping[str, Any]) -> Connection:
        try:
            place = self.guide.dialer.place()
        except DatabaseAway as away:
            raise OperationalError(str(away)) from away
        try:
            connection = cast("Connection", super().get_new_connection({**conn_params, **place}))
        except psycopg.Error:
            self.guide.dialer.forget()
            raise
        try:
            self._introduce(connection)
        except DatabaseAway as away:
            connection.close()
            raise OperationalError(str(away)) from away
        except BaseException:
            connection.close()
            raise
        return connection

    def _introduce(self, connection: Connection) -> None:
        with self.guide.watch.limited(connection, BEGIN_S_MAX):
            _recognise_pooler(connection)
            if not is_pooled(connection):
                run_plain(connection, b"SELECT " + limits(for_session=True))
        self._prove(connection)

    def is_usable(self) -> bool:
        """Whether the connection lives and goes to the primary. Django asks once per request."""
        if self.connection is None:
            return False
        try:
            self._prove(cast("Connection", self.connection))
        except (DatabaseError, DatabaseAway, psycopg.Error):
            return False
        return True

    def set_autocommit(
        self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False
    ) -> None:
        if autocommit and self.connection is None:
            self.autocommit = True
            return  # lost at the end of a transaction: nothing to set, and no reason to connect
        if not autocommit:
            self._fence.check()
        super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
        if not autocommit:
            self._admit()

    def begin_snapshot(self) -> None:
        """A transaction that reads the truth of this moment. Raises `DatabaseAway`."""
        connection = cast("Connection", self.connection)
        try:
            self._prove(connection, begin=BEGIN_READ.pooled)
        except (DatabaseAway, psycopg.Error) as error:
            self._drop()
            if isinstance(error, psycopg.Error):
                raise_family(error)
            raise

    def _admit(self) -> None:
        """At the beginning of a transaction: limits, and a server that may be written to."""
        connection = cast("Connection", self.connection)
        try:
            with self.wrap_database_errors:
                self.guide.admit(
                    connection, self._server(connection, begin=b"BEGIN; " + who_writes(self.rest_ms))
                )
        except BaseException as error:
            self._drop()
            if isinstance(error, DatabaseAway):
                raise OperationalError(str(error)) from error
            raise

    def _prove(self, connection: Connection, *, begin: bytes = WHO) -> None:
        """Ask who answers; return when it may be read from. Raises `DatabaseAway`."""
        with self.guide.watch.limited(connection, BEGIN_S_MAX):
            server, is_standby = answerer_in(run_plain(connection, begin))
        self.guide.prove(server, is_standby=is_standby)

    def _server(self, connection: Connection, *, begin: bytes = WHO) -> Server:
        with self.guide.watch.limited(connection, BEGIN_S_MAX):
            return server_in(run_plain(connection, begin))

    def _within_limits(
        self, execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Mapping[str, Any]
    ) -> Any:
        connection = context["connection"].connection
        if connection is None:
            return execute(sql, parameters, many, context)
        with self.guide.watch.limited(connection, ANSWER_S_MAX), lost_if_given_up():
            return execute(sql, parameters, many, context)

    def _commit(self) -> None:
        connection = self.connection
        if connection is None:
            return
        self._check_fence()
        with self.guide.watch.limited(connection, COMMIT_S_MAX), refusing_unreplicated(connection):
            try:
                with lost_if_given_up():
                    super()._commit()  # type: ignore[misc]  # the stubs leave it out
            except (OperationalError, InterfaceError) as error:
                self._drop()
                raise OutcomeUnknown(f"the connection was lost during COMMIT: {error}") from error
        self._fence.confirm()

    def _check_fence(self) -> None:
        try:
            self._fence.check()
        except SiteFenced:
            self._drop()  # which rolls back; Django would do so for errors of its own only
            raise

    def _drop(self) -> None:
        """Nothing more is to be had from this connection."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


@contextmanager
def lost_if_given_up() -> Iterator[None]:
    """A server that ended the transaction of a silent process is, to Django, one that is away."""
    try:
        yield
    except InternalError as error:
        if isinstance(error.__cause__, GAVE_UP_ON_US):
            raise OperationalError(str(error)) from error.__cause__
        raise


def _recognise_pooler(connection: Connection) -> None:
    pid = run_plain(connection, b"SELECT pg_backend_pid()").get_value(0, 0)
    assert pid is not None, "a server process has a number"
    if int(pid) != connection.pgconn.backend_pid:
        connection.prepare_threshold = None
