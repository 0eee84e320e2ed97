"""A cache keeps what its patterns name."""

import pytest

from mainstay.ops.sites.patterns import matches


@pytest.mark.parametrize(
    ("pattern", "path", "is_kept"),
    [
        ("group/**", "group/project", True),
        ("group/**", "group/sub/project", True),
        ("group/**", "group", False),
        ("group/**", "groups/project", False),
        ("group/*", "group/project", True),
        ("group/*", "group/sub/project", False),
        ("group/proj?ct", "Group/Project", True),
        ("group/a.b", "group/aXb", False),
        ("**", "any/thing", True),
    ],
)
def test_a_pattern_names_a_project_a_group_or_all_below(pattern: str, path: str, is_kept: bool) -> None:
    assert matches([pattern], path) is is_kept


def test_one_of_several_is_enough_and_none_keeps_nothing() -> None:
    assert matches(["x/y", "group/*"], "group/project")
    assert not matches([], "group/project")
