"""Which program runs on which tables."""

import pytest

from mainstay.cluster.schema import CURRENT, FLOOR, RELEASES, Migrate, Refuse, Release, RunOn, decide

PROGRAM = Release(current=7, floor=6)


@pytest.mark.parametrize("tables", [None, Release(5, 4), Release(6, 5)])
def test_older_tables_are_migrated(tables: Release | None) -> None:
    assert isinstance(decide(tables, program=PROGRAM), Migrate)


@pytest.mark.parametrize("tables", [Release(7, 6), Release(8, 7), Release(9, 6)])
def test_tables_that_carry_the_program_are_left_alone(tables: Release) -> None:
    assert isinstance(decide(tables, program=PROGRAM), RunOn)


def test_tables_that_have_moved_on_are_refused_with_what_to_do() -> None:
    decision = decide(Release(9, 8), program=PROGRAM)
    assert decision == Refuse(
        "the tables of the database need a program of schema release 8 or later, and this one knows 7:"
        " install the version that the other nodes run"
    )


def test_the_numbers_of_this_program_make_sense() -> None:
    assert 1 <= FLOOR <= CURRENT
    assert sorted(RELEASES) == list(range(1, CURRENT + 1))
