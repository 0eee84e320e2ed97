"""Scratch directories belong to whoever lives, and to nobody afterwards."""

from pathlib import Path

import pytest

from mainstay.boot.layout import Layout
from mainstay.boot.scratch import remove_abandoned, scratch_directory


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_a_scratch_directory_is_private_and_goes_with_its_block(layout: Layout) -> None:
    with scratch_directory(layout) as directory:
        assert directory.parent == layout.scratch
        assert directory.stat().st_mode & 0o077 == 0
        (directory / "deep").mkdir()
        (directory / "deep" / "file").write_bytes(b"x")
    assert not directory.exists()


def test_two_have_one_each(layout: Layout) -> None:
    with scratch_directory(layout) as one, scratch_directory(layout) as two:
        assert one != two


def test_only_what_nobody_holds_is_removed(layout: Layout) -> None:
    with scratch_directory(layout) as held:
        (layout.scratch / "left" / "deep").mkdir(parents=True)
        assert remove_abandoned(layout) == 1
        assert held.is_dir()
        assert not (layout.scratch / "left").exists()
        assert remove_abandoned(layout) == 0


def test_where_nobody_ever_worked_there_is_nothing_to_remove(layout: Layout) -> None:
    assert remove_abandoned(layout) == 0
    assert not layout.scratch.exists()
