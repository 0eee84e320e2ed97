"""Ask the site's own database whose it is, whether it takes writes or follows another.

By a connection of its own: everybody else's goes to servers that take writes only. Short limits everywhere,
because who asks this asks every second.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from mainstay.cluster.epochs.table import NOBODYS, Reign, epoch_of, reign_from
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import Database
from mainstay.storage.database.opening import open_database

if TYPE_CHECKING:
    import psycopg

log = get_logger()

_LIMIT_S: Final = 2
_TABLE: Final = "SELECT pg_is_in_recovery(), to_regclass('cluster_epoch') IS NOT NULL"
_EPOCH: Final = (
    "SELECT pg_is_in_recovery(), epoch, site_id, site_name, site_url, since_ms"
    " FROM (SELECT 1) AS here LEFT JOIN cluster_epoch ON id = 1"
)


@dataclass(frozen=True, slots=True)
class OwnDatabase:
    """What a look found."""

    reign: Reign
    in_recovery: bool


class Look(Protocol):
    """Looks at the site's own database. For one thread."""

    def __call__(self) -> OwnDatabase | None:
        """None: it is away, or cannot be asked now. Never raises."""
        ...

    def close(self) -> None: ...


def look_at(url: str) -> Look:
    """For the database at `url`, as `open_database` takes it."""
    if url.startswith("sqlite:"):
        return _LocalLook(open_database(url))
    return _ServerLook(url)


class _LocalLook:
    """A file follows nobody."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self) -> OwnDatabase | None:
        try:
            return OwnDatabase(epoch_of(self._database), in_recovery=False)
        except MainstayError as away:
            log.debug("epochs.own_database_away", because=str(away))
            return None

    def close(self) -> None:
        self._database.close()


class _ServerLook:
    """Keeps its connection. Of several hosts it asks one that takes writes, if there is one."""

    def __init__(self, url: str) -> None:
        import psycopg  # noqa: PLC0415 - a driver that only its users pay for

        from mainstay.storage.database.dialing import connection_arguments  # noqa: PLC0415 - same

        self._error: type[Exception] = psycopg.Error
        self._connect = psycopg.Connection[tuple[Any, ...]].connect
        self._arguments = {**connection_arguments(url), "connect_timeout": _LIMIT_S}
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def __call__(self) -> OwnDatabase | None:
        try:
            return self._look()
        except self._error as away:
            log.debug("epochs.own_database_away", because=str(away))
            self.close()
            return None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _look(self) -> OwnDatabase:
        if self._connection is None:
            self._connection = self._dial()
        row = self._connection.execute(_TABLE).fetchone()
        assert row is not None, "a query without FROM has one row"
        if not row[1]:
            return OwnDatabase(NOBODYS, in_recovery=bool(row[0]))
        row = self._connection.execute(_EPOCH).fetchone()
        assert row is not None, "a left join has the row of its left side"
        return OwnDatabase(reign_from(None if row[1] is None else row[1:]), in_recovery=bool(row[0]))

    def _dial(self) -> "psycopg.Connection[tuple[Any, ...]]":
        several = "," in str(self._arguments.get("host", ""))
        for attributes in ("read-write", "any") if several else ("any",):
            try:
                return self._connect(
                    **{**self._arguments, "target_session_attrs": attributes},
                    autocommit=True,
                    options=f"-c statement_timeout={_LIMIT_S * 1000}",
                )
            except self._error:
                if attributes == "any":
                    raise
        raise AssertionError("the last attempt returns or raises")
