"""A move compares what was written with what is read back, in any order, and takes nothing for granted."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.boot.moved import MoveUnreadable, after_move, write_move
from mainstay.ops.moving.rows import Column, Sum, UnknownType, WrongValue, hash_of, readers_of, typed

VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary())


def sum_of(rows: Any) -> Sum:
    total = Sum()
    for row in rows:
        total = total.plus(row)
    return total


def test_the_sum_does_not_depend_on_order_but_on_every_row_and_how_often() -> None:
    rows = [(1, "a"), (2, None), (2, None), (3, b"a")]
    assert len({sum_of(order) for order in permutations(rows)}) == 1
    assert sum_of(rows) != sum_of(rows[:-1])
    assert sum_of([(1, "a"), (1, "a")]) != sum_of([(1, "b"), (1, "b")])
    assert sum_of([(1,), (4,)]) != sum_of([(2,), (3,)])


@given(st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=4))
def test_two_rows_have_the_same_hash_only_if_they_are_the_same(left: list[Any], right: list[Any]) -> None:
    def shape(row: list[Any]) -> list[tuple[type, Any]]:
        return [(type(value), value) for value in row]

    assert (hash_of(left) == hash_of(right)) == (shape(left) == shape(right))


@pytest.mark.parametrize(
    ("kind", "value"),
    [("integer", "7"), ("bigint", 1.5), ("boolean", 2), ("text", b"x"), ("text", "a\0b"), ("bytea", "x")],
)
def test_what_postgresql_would_not_take_is_named(kind: str, value: object) -> None:
    columns = [Column("id", "bigint"), Column("odd", kind)]
    with pytest.raises(WrongValue, match=r"things\.odd"):
        typed("things", columns, readers_of("things", columns), (1, value))


def test_truth_and_emptiness_are_the_same_from_either_side() -> None:
    columns = [Column("is_admin", "boolean"), Column("digest", "bytea"), Column("name", "text")]
    readers = readers_of("things", columns)
    assert typed("things", columns, readers, (1, memoryview(b"x"), None)) == (True, b"x", None)
    assert typed("things", columns, readers, (True, b"x", None)) == (True, b"x", None)


def test_a_type_that_nobody_thought_of_stops_the_move() -> None:
    with pytest.raises(UnknownType, match="jsonb"):
        readers_of("things", [Column("facts", "jsonb")])


def test_whoever_names_the_moved_file_means_its_new_place(tmp_path: Path) -> None:
    file = tmp_path / "mainstay.db"
    assert after_move(tmp_path, f"sqlite://{file}") == f"sqlite://{file}"
    write_move(tmp_path, file, "managed")
    assert after_move(tmp_path, f"sqlite://{file}") == "managed"
    assert after_move(tmp_path, f"sqlite://{tmp_path}/other.db") == f"sqlite://{tmp_path}/other.db"
    assert after_move(tmp_path, "postgresql://elsewhere/x") == "postgresql://elsewhere/x"
    (tmp_path / "moved.json").write_text("{}")
    with pytest.raises(MoveUnreadable):
        after_move(tmp_path, f"sqlite://{file}")
