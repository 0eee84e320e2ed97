"""From a URL to a database: `sqlite:///absolute/path`, `sqlite://:memory:`, `postgresql://…`.

A PostgreSQL URL may name several hosts; it is passed to libpq as it is.
"""

from urllib.parse import unquote

from mainstay.foundation.errors import Invalid
from mainstay.storage.database import Database
from mainstay.storage.database.fence import NO_FENCE, Fence
from mainstay.storage.database.sqlite import SqliteDatabase


def open_database(url: str, *, fence: Fence = NO_FENCE) -> Database:
    """Raises `Invalid` for a URL of another kind. Does not connect yet. Every write asks `fence`."""
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator and rest:
        return SqliteDatabase(unquote(rest), fence=fence)
    if scheme in {"postgresql", "postgres"} and separator:
        # A driver that only its users pay for: 0.15 s of every process's start.
        from mainstay.storage.database.postgresql import PostgresqlDatabase  # noqa: PLC0415 - as said

        return PostgresqlDatabase(url, fence=fence)
    raise Invalid(f"database URL of kind {scheme!r}: use sqlite:///PATH or postgresql://…")
