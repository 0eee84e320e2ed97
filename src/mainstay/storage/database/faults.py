"""What PostgreSQL says went wrong, as the families a caller can act on.

Three kinds of "later" are told apart. `DatabaseAway`: no server that takes writes was reached, or the one
that was is no longer it; a push waits for the next (`storage.hold`). `LockedTooLong` and `TookTooLong`: the
server is there and somebody is in the way. Plain `Unavailable`: it is there and has no room.
"""

from typing import Any, NoReturn

import psycopg
from psycopg import errors
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from mainstay.foundation.errors import Conflict, Invalid, Unavailable
from mainstay.storage.database import ConstraintBroken, DatabaseAway

Connection = psycopg.Connection[tuple[Any, ...]]

_DONE = {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY}

GAVE_UP_ON_US = errors.IdleInTransactionSessionTimeout
"""The server ended the transaction and the connection, because this process was silent in the middle: it was
frozen, or has no time. Nothing of the transaction happened."""


class LockedTooLong(Unavailable):
    """Somebody else kept a row or table locked past the limit."""


class TookTooLong(Unavailable):
    """A statement ran past its limit and was cancelled."""


def raise_family(error: psycopg.Error) -> NoReturn:
    """Raise `error` as the family the caller can act on; an error of ours (bad SQL) goes on as it is."""
    if isinstance(error, psycopg.IntegrityError):
        raise ConstraintBroken(str(error)) from error
    if isinstance(error, errors.SerializationFailure | errors.DeadlockDetected):
        raise Conflict(f"the database asks to try again: {error}") from error
    if isinstance(error, psycopg.DataError):
        raise Invalid(f"the database cannot hold this: {error}") from error
    if isinstance(error, errors.LockNotAvailable):
        raise LockedTooLong(f"others kept the database locked: {error}") from error
    if isinstance(error, errors.QueryCanceled):
        raise TookTooLong(f"the database took too long: {error}") from error
    if isinstance(error, errors.DiskFull | errors.OutOfMemory):
        raise Unavailable(f"the database has no room: {error}") from error
    is_lost = type(error) is psycopg.DatabaseError and error.sqlstate is None
    if is_lost or isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | GAVE_UP_ON_US):
        raise DatabaseAway(f"the database is away: {error}") from error
    raise error


def run_plain(connection: Connection, sql: bytes) -> PGresult:
    """Run statements without parameters in one round trip; the result of the last. Raises `psycopg.Error`.

    By libpq itself and not by a cursor, which costs a third of the time of a short read.
    """
    result = connection.pgconn.exec_(sql)
    if result.status in _DONE:
        return result
    if connection.pgconn.status == ConnStatus.BAD or not result.error_field(DiagnosticField.SQLSTATE):
        # Without a code it is not the server that speaks: libpq says what became of the connection, and does
        # not always call it bad yet.
        raise psycopg.OperationalError(result.get_error_message() or "the connection is lost")
    raise errors.error_from_result(result)
