"""One way to speak SQL to SQLite and PostgreSQL: short transactions, `?` placeholders, plain tuples.

The SQL is the subset both understand: `RETURNING`, `ON CONFLICT`, `BLOB`/`bytea` values as bytes.
Implementations: `sqlite.SqliteDatabase`, `postgresql.PostgresqlDatabase`, and `django.DjangoDatabase`,
which joins the transaction of the Django connection of this thread so that a service that writes by ORM
and the ledger commit together. All block; callers that wait run them in a thread.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, runtime_checkable

from mainstay.foundation.errors import Conflict, Unavailable

Dialect = Literal["sqlite", "postgresql"]


class ConstraintBroken(Conflict):
    """A unique, foreign key or check constraint refused the statement."""


class WouldWait(Exception):
    """Not without waiting: do it again where waiting is allowed. Nothing has happened yet."""


class DatabaseAway(Unavailable):
    """No server that takes writes was reached. Another may take over: worth waiting for."""


class DatabaseCutOff(DatabaseAway):
    """It answers other nodes and not this one. Nothing has happened, and another node will do."""


class Transaction(Protocol):
    """One open transaction. Not for use from two threads at once."""

    @property
    def dialect(self) -> Dialect: ...

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        ...

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query (or a statement with RETURNING) and return all rows."""
        ...

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Run a query and return the first row, or None."""
        ...

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run a statement once per row of parameters, in as few round trips as the driver can."""
        ...


class Database(Protocol):
    """A place for short transactions.

    Errors: `DatabaseAway` when no primary can be reached, `Unavailable` when it stays locked past its limit,
    `OutcomeUnknown` when COMMIT was sent and the answer was lost, `Conflict` on a serialization failure
    or deadlock. Constraint violations raise `ConstraintBroken`.
    """

    @property
    def dialect(self) -> Dialect: ...

    def read(self) -> AbstractContextManager[Transaction]:
        """A consistent snapshot; writing in it is an error."""
        ...

    def write(self) -> AbstractContextManager[Transaction]:
        """Commit at the end of the block, roll back when it raises. SQLite: BEGIN IMMEDIATE."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class SharedDatabase(Database, Protocol):
    """A database that other nodes use, too, and may reach when this one does not."""

    def cut_off(self, because: str | None) -> None:
        """From now on do not wait for it: whoever asks is told `DatabaseCutOff`, and so is who waits for an
        answer, unless it is the one to a COMMIT. With None all is as before.
        """
        ...


@runtime_checkable
class LocalDatabase(Database, Protocol):
    """A database on this machine, which may be read by who must not wait, such as an event loop."""

    def without_waiting(self) -> AbstractContextManager[None]:
        """Every `read` of this thread in the block sees one snapshot, taken in the block.

        Raises `WouldWait` instead of waiting for a lock; writing always would.
        """
        ...


def expect_long_rests(tx: Transaction) -> None:
    """For one of so many rows that we think long between two statements (`dialing.WRITER_REST_MS`)."""
    if tx.dialect == "postgresql":
        tx.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
