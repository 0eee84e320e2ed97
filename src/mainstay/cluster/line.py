"""A line of its own to the database, on which nothing takes longer than a limit.

For the heart and for blame: a pool that is full of waiting pushes, a server that accepts and never answers,
or a standby that is awaited for ever must not look like a node that is dead, nor keep one from finding out.
What is written here is worth nothing after a crash, so a commit does not wait for a disk or a standby.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol
from urllib.parse import unquote

from mainstay.storage.database import Transaction
from mainstay.storage.database.sqlite import SqliteDatabase


class Line(Protocol):
    """The part of `storage.database.Database` that the list of nodes needs; raises what that raises."""

    def read(self) -> AbstractContextManager[Transaction]: ...

    def write(self) -> AbstractContextManager[Transaction]: ...

    def close(self) -> None: ...


def open_line(url: str, *, limit_s: float, may_follow: Callable[[], bool] = lambda: False) -> Line:
    """A line to the database at `url`, which `open_database` takes, too. Does not connect to a server yet.

    While `may_follow` holds, also to a server in recovery: on a replica there is no other.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return _sqlite_line(unquote(rest), limit_s)
    from mainstay.cluster.postgresql_line import PostgresqlLine  # noqa: PLC0415 - its driver takes 0.15 s

    return PostgresqlLine(url, limit_s=limit_s, may_follow=may_follow)


def _sqlite_line(path: str, limit_s: float) -> Line:
    line = SqliteDatabase(path, busy_timeout_s=limit_s)
    # The next commit of somebody else syncs what this leaves unsynced; the file stays sound either way.
    line.shared_connection().execute("PRAGMA synchronous = NORMAL")
    return line
