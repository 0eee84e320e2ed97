"""The move itself: compare the catalogs, copy, read back, compare."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Conflict
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.ops.moving.rows import Column, Sum, readers_of, typed
from mainstay.ops.moving.source import Source
from mainstay.ops.moving.target import Target

OWN: Final = frozenset({"django_migrations"})
"""Each side made its own: compared by content, and not moved."""
_ROWS_PER_S = 15_000
_BYTES_PER_S = 20 * 1024**2
"""Measured on two slow cores, reading back included."""
_START_S = 5

COPIED = declare("move.copied", "everything is in the open transaction of the target, not read back yet")
COMMITTED = declare("move.committed", "the target has everything, and the node still uses the source")

Tell = Callable[[str], None]


class CatalogsDiffer(Conflict):
    """The tables of the two databases are not the same."""


class NotTheSame(Conflict):
    """What was read back is not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a move would do."""

    instance: str
    rows: Mapping[str, int]
    size_bytes: int

    @property
    def rows_in_sum(self) -> int:
        return sum(self.rows.values())

    @property
    def seconds(self) -> int:
        """About how long, on a small machine."""
        return _START_S + max(self.rows_in_sum // _ROWS_PER_S, self.size_bytes // _BYTES_PER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a move did."""

    instance: str
    tables: Mapping[str, Sum] = field(default_factory=dict)
    took_s: float

    @property
    def rows_in_sum(self) -> int:
        return sum(each.rows for each in self.tables.values())


def plan(source: Source) -> Plan:
    """Look at the source; touches nothing."""
    tables = sorted(source.tables() - OWN)
    return Plan(
        instance=source.instance(),
        rows={table: source.count(table) for table in tables},
        size_bytes=source.size_bytes(),
    )


def move(
    source: Source, target: Target, *, make_tables: Callable[[], None], clock: Clock, tell: Tell
) -> Moved:
    """Fill the target. Repeat it after anything; the target stays marked until `Target.unmark`."""
    began_s = clock.monotonic_s()
    instance = source.instance()
    if target.check(instance):
        tell("an earlier move was broken off: beginning anew")
    target.mark(instance)
    make_tables()
    columns = compare(source, target)
    with target.connection.transaction():
        target.empty(columns)
        written = {table: _copy(source, target, table, columns[table], tell) for table in sorted(columns)}
        failpoint(COPIED)
        _continue_numbers(source, target, columns)
        target.check_constraints()
        for table, expected in written.items():
            _read_back(target, table, columns[table], expected)
        tell("everything was read back and is the same")
    failpoint(COMMITTED)
    target.analyze()
    return Moved(instance=instance, tables=written, took_s=clock.monotonic_s() - began_s)


def compare(source: Source, target: Target) -> dict[str, list[Column]]:
    """The tables to move, with their columns. Raises `CatalogsDiffer`, `UnknownType`."""
    ours, theirs = source.tables(), target.tables()
    if ours != theirs:
        only = ", ".join(sorted(ours ^ theirs))
        raise CatalogsDiffer(
            f"only one of the two databases has {only}: start this version once on SQLite, stop it, move then"
        )
    if source.migrations() != target.migrations():
        raise CatalogsDiffer(
            "the tables of the source are of another version: start this version once on SQLite, stop it,"
            " move then"
        )
    found: dict[str, list[Column]] = {}
    for table in ours - OWN:
        found[table] = target.columns(table)
        if {column.name for column in found[table]} != source.columns(table):
            raise CatalogsDiffer(f"{table} has other columns in the source than in the target")
        readers_of(table, found[table])
    return found


def _copy(source: Source, target: Target, table: str, columns: Sequence[Column], tell: Tell) -> Sum:
    readers = readers_of(table, columns)
    total = Sum()

    def rows() -> Iterator[tuple[object, ...]]:
        nonlocal total
        for raw in source.rows(table, columns):
            row = typed(table, columns, readers, raw)
            total = total.plus(row)
            yield row

    target.fill(table, columns, rows())
    tell(f"{table}: {total.rows} rows")
    return total


def _read_back(target: Target, table: str, columns: Sequence[Column], expected: Sum) -> None:
    readers = readers_of(table, columns)
    found = Sum()
    for raw in target.rows(table, columns):
        found = found.plus(typed(table, columns, readers, raw))
    if found != expected:
        raise NotTheSame(f"{table}: {expected} were written, {found} read back")


def _continue_numbers(source: Source, target: Target, columns: Mapping[str, Sequence[Column]]) -> None:
    for sequence in target.sequences():
        if sequence.table in OWN:
            continue
        if sequence.table not in columns:
            raise CatalogsDiffer(f"the sequence {sequence.name} belongs to no table that is moved")
        target.continue_numbers(sequence, source.highest_id(sequence.table, sequence.column))
