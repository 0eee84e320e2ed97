"""Ask a server in recovery how far it has come, on a line of its own."""

from mainstay.cluster.reading_line import open_reading_line
from mainstay.cluster.station import LOOK_LIMIT_S, Measure, Progress

_ASK = """
SELECT pg_is_in_recovery(),
       EXISTS (SELECT 1 FROM pg_stat_wal_receiver),
       greatest(0, coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0))::bigint,
       (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()))::float8
"""


def measure_of(url: str) -> Measure:
    """For the database at `url`. Does not connect yet."""
    return _ServerMeasure(url)


class _ServerMeasure:
    def __init__(self, url: str) -> None:
        self._line = open_reading_line(url, limit_s=LOOK_LIMIT_S)

    def __call__(self) -> Progress | None:
        with self._line.read() as tx:
            row = tx.row(_ASK)
        assert row is not None, "a query without FROM has one row"
        if not row[0]:
            return None
        age_s = None if row[3] is None else max(0.0, float(row[3]))
        return Progress(is_connected=bool(row[1]), pending_bytes=int(row[2]), commit_age_s=age_s)

    def close(self) -> None:
        self._line.close()
