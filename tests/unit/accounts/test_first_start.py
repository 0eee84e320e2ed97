"""The first administrator and the file with their password."""

import stat
from pathlib import Path

import pytest

from mainstay.foundation.clock import SYSTEM, ManualClock
from mainstay.product.accounts import identify
from mainstay.product.accounts.first_start import change_password, first_start, forget_initial_password
from mainstay.product.accounts.models import User
from mainstay.product.accounts.passwords import WeakPassword
from mainstay.storage.database.django import DjangoDatabase
from support.product import QUICK, make_user

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "initial_root_password"


def sign_in(password: str) -> str:
    actor = identify.by_password(
        DjangoDatabase(), "root", password, address="192.0.2.1", clock=ManualClock(), settings=QUICK
    )
    return actor.label


def test_the_first_start_makes_root_with_the_password_in_the_file(tmp_path: Path, file: Path) -> None:
    password = first_start(tmp_path, settings=QUICK)
    assert password is not None
    assert file.read_text() == password + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    root = User.objects.get()
    assert (root.id, root.username, root.is_admin, root.namespace.full_path) == (1, "root", True, "root")
    assert sign_in(password) == "user:1"


def test_later_starts_change_nothing(tmp_path: Path, file: Path) -> None:
    first_start(tmp_path, settings=QUICK)
    before = file.read_text()
    assert first_start(tmp_path, settings=QUICK) is None
    assert (file.read_text(), User.objects.count()) == (before, 1)


def test_a_start_after_a_crash_writes_the_file_anew(tmp_path: Path, file: Path) -> None:
    file.write_text("of a start that died before its commit")
    password = first_start(tmp_path, settings=QUICK)
    assert file.read_text() == f"{password}\n"


def test_a_link_of_that_name_is_not_written_through(tmp_path: Path, file: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("kept")
    file.symlink_to(target)
    first_start(tmp_path, settings=QUICK)
    assert target.read_text() == "kept"
    assert not file.is_symlink()


def test_no_user_is_made_when_the_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the directory should be")
    with pytest.raises(OSError, match="data"):
        first_start(tmp_path / "data", settings=QUICK)
    assert not User.objects.exists()


def test_a_password_given_beforehand_is_not_written(tmp_path: Path, file: Path) -> None:
    assert first_start(tmp_path, password="given by an operator", settings=QUICK) == "given by an operator"
    assert not file.exists()


def test_the_file_goes_with_the_first_change(tmp_path: Path, file: Path) -> None:
    first_start(tmp_path, settings=QUICK)
    assert not forget_initial_password(tmp_path, SYSTEM.now_ms())
    change_password(User.objects.get(), "battery staple", data_directory=tmp_path, settings=QUICK)
    assert not file.exists()
    assert sign_in("battery staple") == "user:1"


def test_the_file_stays_when_the_new_password_is_refused(tmp_path: Path, file: Path) -> None:
    first_start(tmp_path, settings=QUICK)
    with pytest.raises(WeakPassword):
        change_password(User.objects.get(), "short", data_directory=tmp_path, settings=QUICK)
    assert file.exists()


def test_the_file_goes_after_a_day(tmp_path: Path, file: Path) -> None:
    first_start(tmp_path, settings=QUICK)
    written_ms = int(file.stat().st_mtime * 1000)
    assert not forget_initial_password(tmp_path, written_ms + DAY_MS - 1000)
    assert forget_initial_password(tmp_path, written_ms + DAY_MS + 1000)
    assert not file.exists()
    assert not forget_initial_password(tmp_path, written_ms + DAY_MS + 1000)


def test_the_password_of_somebody_else_does_not_matter(tmp_path: Path, file: Path) -> None:
    first_start(tmp_path, settings=QUICK)
    change_password(make_user("ada"), "battery staple", data_directory=tmp_path, settings=QUICK)
    assert file.exists()


def test_an_instance_with_people_gets_no_root(tmp_path: Path, file: Path) -> None:
    make_user("ada")
    assert first_start(tmp_path, settings=QUICK) is None
    assert not file.exists()
