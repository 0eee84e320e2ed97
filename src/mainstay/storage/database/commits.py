"""COMMIT, and what is known after it.

Unknown is: the connection was lost while it ran; the server did not answer in time; or the server stopped
waiting for its synchronous standby, which it says by a warning beside `COMMIT`, although the loss of the
primary would lose the transaction. All three raise `OutcomeUnknown`. Nothing here ever cancels a COMMIT.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from mainstay.foundation.errors import Conflict, OutcomeUnknown
from mainstay.storage.database.faults import Connection, raise_family, run_plain

COMMIT_S_MAX = 20.0
"""How long a COMMIT may wait for its standby until its outcome counts as unknown."""
_SYNC_WAIT_CANCELLED = {"01000", "57P01"}


def commit(connection: Connection) -> None:
    """Send COMMIT, and raise unless it is certain that it happened."""
    with refusing_unreplicated(connection):
        try:
            answer = run_plain(connection, b"COMMIT").command_status
        except (errors.SerializationFailure, errors.DeadlockDetected) as error:
            raise_family(error)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise OutcomeUnknown(f"the connection was lost during COMMIT: {error}") from error
        except psycopg.Error as error:
            raise_family(error)
    if answer != b"COMMIT":
        raise Conflict("the transaction had already failed and was rolled back")


@contextmanager
def refusing_unreplicated(connection: Connection) -> Iterator[None]:
    """Raise at the end if the server said that it gave up waiting for its synchronous standby."""
    warnings: list[str] = []

    def listen(notice: errors.Diagnostic) -> None:
        # Read at once: a notice is empty as soon as this returns.
        if notice.severity_nonlocalized == "WARNING" and notice.sqlstate in _SYNC_WAIT_CANCELLED:
            warnings.append(str(notice.message_primary))

    connection.add_notice_handler(listen)
    try:
        yield
    finally:
        connection.remove_notice_handler(listen)
    if warnings:
        raise OutcomeUnknown(f"the commit may not be replicated: {warnings[0]}")
