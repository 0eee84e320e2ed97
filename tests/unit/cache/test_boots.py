"""A cache is believed as long as the machine stays up."""

from pathlib import Path

from mainstay.cache.boots import forget_other_boots
from mainstay.foundation.boots import boot_id


def test_what_an_earlier_boot_left_is_put_aside(tmp_path: Path) -> None:
    pack, copy = tmp_path / "packs" / "a.pack", tmp_path / "copies" / "uid" / "1" / "pin"
    assert not forget_other_boots(tmp_path, "first"), "a fresh cache"
    for path in (pack, copy):
        path.parent.mkdir(parents=True)
        path.touch()
    assert not forget_other_boots(tmp_path, "first")
    assert pack.exists()
    assert copy.exists()
    assert forget_other_boots(tmp_path, "second")
    assert not (tmp_path / "packs").exists()
    assert not (tmp_path / "copies").exists()
    assert len(list((tmp_path / "trash").iterdir())) == 2
    assert not forget_other_boots(tmp_path, "second")


def test_a_cache_of_unknown_boot_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    assert forget_other_boots(tmp_path, boot_id())


def test_the_boot_stays_the_same_while_the_machine_is_up() -> None:
    assert boot_id() == boot_id()
