"""The database of this thread's Django connection.

A block joins the transaction that a service opened with `transaction.atomic()`: what the service writes
by ORM and what the ledger writes commit together. A block that raises inside an open transaction undoes
only itself. Outside of one, a block is a transaction of its own.

Not here: when the outermost transaction is the service's, its commit is the service's to judge.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, cast

import psycopg
from django import db
from django.db import transaction

from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.storage.database import ConstraintBroken, DatabaseAway, Dialect, Transaction
from mainstay.storage.database.faults import raise_family
from mainstay.storage.database.postgresql import PostgresqlTransaction
from mainstay.storage.database.sqlite import SqliteTransaction

if TYPE_CHECKING:
    from mainstay.storage.database.orm.base import DatabaseWrapper


class DjangoDatabase:
    """Joins `django.db.connection`. One instance serves all threads: Django keeps the connections."""

    @property
    def dialect(self) -> Dialect:
        return cast("Dialect", db.connection.vendor)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        outermost = not db.connection.in_atomic_block
        block = transaction.atomic()
        with _unavailable_if_lost():
            block.__enter__()
        try:
            yield self._transaction()
        except BaseException as error:
            block.__exit__(type(error), error, error.__traceback__)
            raise
        if outermost:
            _commit(block)
        else:
            block.__exit__(None, None, None)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Inside an open transaction: a part of it. Outside: a snapshot that takes no write lock."""
        if db.connection.in_atomic_block:
            yield self._transaction()
            return
        with _unavailable_if_lost():
            self._snapshot()
        try:
            yield self._transaction()
        finally:
            with _unavailable_if_lost():
                self._statement("ROLLBACK")

    def close(self) -> None:
        db.connection.close()

    def _snapshot(self) -> None:
        if self.dialect == "sqlite":
            self._statement("BEGIN")
            return
        db.connection.ensure_connection()
        cast("DatabaseWrapper", db.connection).begin_snapshot()

    def _statement(self, sql: str) -> None:
        with db.connection.cursor() as cursor:
            cursor.execute(sql)

    def _transaction(self) -> Transaction:
        """The raw connection under Django's, so that errors and bulk writes are the same everywhere."""
        db.connection.ensure_connection()
        raw = db.connection.connection
        if isinstance(raw, sqlite3.Connection):
            return SqliteTransaction(raw)
        return PostgresqlTransaction(raw)


def _commit(block: transaction.Atomic) -> None:
    try:
        block.__exit__(None, None, None)
    except db.IntegrityError as error:
        raise ConstraintBroken(str(error)) from error
    except db.OperationalError as error:
        raise OutcomeUnknown(f"the connection was lost during COMMIT: {error}") from error


def raise_away(error: db.Error) -> NoReturn:
    """Raise an error of Django's, which stands for a database that is away or in use, as one of ours."""
    cause = error.__cause__
    if isinstance(cause, psycopg.Error):
        raise_family(cause)
    if isinstance(cause, DatabaseAway):
        raise DatabaseAway(str(cause)) from error
    raise Unavailable(f"the database is away: {error}") from error


@contextmanager
def _unavailable_if_lost() -> Iterator[None]:
    try:
        yield
    except (db.OperationalError, db.InterfaceError) as error:
        raise_away(error)
