"""What a value is on both sides, and a sum over a table that does not depend on order. No input or output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from mainstay.foundation.errors import Conflict

_SUM_BITS = 256


class UnknownType(Conflict):
    """A column has a type for which nobody has said how it moves."""


class WrongValue(Conflict):
    """SQLite let something into a column that PostgreSQL would not."""


@dataclass(frozen=True, slots=True)
class Column:
    """As PostgreSQL has it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Sum:
    """How many rows, and the sum of their hashes: equal for equal rows in any order."""

    rows: int = 0
    hashes: int = 0

    def plus(self, row: Sequence[Any]) -> "Sum":
        return Sum(self.rows + 1, (self.hashes + hash_of(row)) % (1 << _SUM_BITS))

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.hashes:064x}"


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _truth(value: Any) -> bool:
    if value not in (0, 1):
        raise TypeError
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | memoryview):
        raise TypeError
    return bytes(value)


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "smallint": _whole,
    "integer": _whole,
    "bigint": _whole,
    "boolean": _truth,
    "text": _text,
    "character varying": _text,
    "bytea": _bytes,
}


def readers_of(table: str, columns: Sequence[Column]) -> list[Callable[[Any], Any]]:
    """How to read each column from either side. Raises `UnknownType`."""
    for column in columns:
        if column.type not in _READ:
            raise UnknownType(
                f"{table}.{column.name} has the type {column.type}, which the move does not know"
            )
    return [_READ[column.type] for column in columns]


def typed(
    table: str, columns: Sequence[Column], readers: Sequence[Callable[[Any], Any]], row: Sequence[Any]
) -> tuple[Any, ...]:
    """The row in Python's types, the same from either side. Raises `WrongValue`."""
    found: list[Any] = []
    for column, read, value in zip(columns, readers, row, strict=True):
        try:
            found.append(None if value is None else read(value))
        except TypeError:
            raise WrongValue(
                f"{table}.{column.name} holds a {type(value).__name__} that is no {column.type}"
            ) from None
    return tuple(found)


def hash_of(row: Sequence[Any]) -> int:
    """Of a typed row. Each value goes in with its kind and length, so that no two rows look alike."""
    whole = sha256()
    for value in row:
        content = _encoded(value)
        whole.update(b"%d:" % len(content))
        whole.update(content)
    return int.from_bytes(whole.digest())


def _encoded(value: Any) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, int):
        return b"i%d" % value
    return b"b" + value if isinstance(value, bytes) else b"s" + str(value).encode("utf-8", "surrogatepass")
