"""A `Line` to a single PostgreSQL server, in whatever role it is. For `reading_line`."""

import psycopg

from mainstay.cluster.postgresql_line import PostgresqlLine
from mainstay.storage.database import DatabaseAway
from mainstay.storage.database.dialing import connection_arguments, places_of
from mainstay.storage.database.faults import Connection


def is_alone(url: str) -> bool:
    return len(places_of(connection_arguments(url))) == 1


class EitherLine(PostgresqlLine):
    """Only for reading: it does not look for a server that takes writes."""

    def _dial(self) -> Connection:
        if self._is_closed:
            raise DatabaseAway("the database is closed: this process is stopping")
        try:
            connection: Connection = psycopg.connect(**connection_arguments(self._url), autocommit=True)
        except psycopg.Error as error:
            raise DatabaseAway(f"the database is away: {error}") from error
        connection.prepare_threshold = None  # a pooler in between would not keep what was prepared
        return connection
