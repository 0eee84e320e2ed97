"""A line for who only reads, and also from a server that follows another: on a replica there is no other.

Of a database with several hosts the primary is asked, as everywhere. Where there is one, it is asked whatever
it is now: a promotion or a demotion is no reason to know less.
"""

from contextlib import AbstractContextManager
from typing import Protocol

from mainstay.cluster.line import open_line
from mainstay.storage.database import Transaction


class ReadingLine(Protocol):
    """The part of a `Line` that works in every role of a server."""

    def read(self) -> AbstractContextManager[Transaction]: ...

    def close(self) -> None: ...


def open_reading_line(url: str, *, limit_s: float) -> ReadingLine:
    """To the database at `url`, as `open_line` takes it. Does not connect to a server yet."""
    if url.startswith("sqlite:"):
        return open_line(url, limit_s=limit_s)
    from mainstay.cluster.either_line import EitherLine, is_alone  # noqa: PLC0415 - its driver takes 0.15 s

    return EitherLine(url, limit_s=limit_s) if is_alone(url) else open_line(url, limit_s=limit_s)
