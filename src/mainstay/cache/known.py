"""What this node knew a while ago, for the time when the database is away and reads are to go on.

One small SQLite file that the processes of a node share. It may be deleted at any time, like all of the
cache; it holds no secret. Values are small and opaque here. `noted` is when somebody learnt a value in the
course of their work, `checked` when it was last found to be still so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mainstay.foundation.clock import Clock
from mainstay.storage.database.sqlite import SqliteDatabase

_WAIT_S_MAX = 2.0
_ROWS_MAX = 20_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS known (kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
noted_ms INTEGER NOT NULL, checked_ms INTEGER NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Known:
    """One thing that was known."""

    key: str
    value: bytes
    noted_ms: int
    checked_ms: int


class KnownFile:
    """Errors: `Unavailable`, for whoever asks to decide whether that matters."""

    def __init__(self, file: Path, clock: Clock) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._database = SqliteDatabase(file, busy_timeout_s=_WAIT_S_MAX)
        self._clock = clock
        connection = self._database.shared_connection()
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_SCHEMA)

    def note(self, kind: str, key: str, value: bytes) -> None:
        now_ms = self._clock.now_ms()
        with self._database.write() as tx:
            tx.execute(
                "INSERT INTO known (kind, key, value, noted_ms, checked_ms) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value,"
                " noted_ms = excluded.noted_ms, checked_ms = excluded.checked_ms",
                (kind, key, value, now_ms, now_ms),
            )

    def find(self, kind: str, key: str) -> Known | None:
        with self._database.read() as tx:
            row = tx.row(
                "SELECT key, value, noted_ms, checked_ms FROM known WHERE kind = ? AND key = ?", (kind, key)
            )
        return None if row is None else Known(*row)

    def mark_checked(self, kind: str, key: str) -> None:
        with self._database.write() as tx:
            tx.execute(
                "UPDATE known SET checked_ms = ? WHERE kind = ? AND key = ?",
                (self._clock.now_ms(), kind, key),
            )

    def forget(self, kind: str, key: str) -> None:
        with self._database.write() as tx:
            tx.execute("DELETE FROM known WHERE kind = ? AND key = ?", (kind, key))

    def longest_unchecked(self, kind: str, *, limit: int) -> Sequence[Known]:
        with self._database.read() as tx:
            rows = tx.rows(
                "SELECT key, value, noted_ms, checked_ms FROM known WHERE kind = ?"
                " ORDER BY checked_ms LIMIT ?",
                (kind, limit),
            )
        return [Known(*row) for row in rows]

    def forget_old(self, *, before_ms: int) -> None:
        """What was noted before that; and of the rest the oldest, if there is too much."""
        with self._database.write() as tx:
            tx.execute("DELETE FROM known WHERE noted_ms < ?", (before_ms,))
            tx.execute(
                "DELETE FROM known WHERE (kind, key) IN"
                " (SELECT kind, key FROM known ORDER BY noted_ms DESC LIMIT -1 OFFSET ?)",
                (_ROWS_MAX,),
            )

    def close(self) -> None:
        self._database.close()
