"""What Django is told about the database and about safety, from one URL."""

from pathlib import Path

import pytest

from mainstay.boot import django_settings
from mainstay.boot.django_settings import database_from


def test_a_url_of_several_hosts_passes_through_and_our_engine_finds_the_one_that_writes() -> None:
    told = database_from("postgresql://ada:p%40ss@db1:5432,db2:5433/main%20stay")
    assert (told["HOST"], told["PORT"]) == ("db1,db2", "5432,5433")
    assert (told["NAME"], told["USER"], told["PASSWORD"]) == ("main stay", "ada", "p@ss")
    assert told["ENGINE"] == "mainstay.storage.database.orm"
    assert "target_session_attrs" not in told["OPTIONS"], "it would choose an old primary that stands first"


def test_options_of_the_url_pass_through_and_beat_our_defaults() -> None:
    told = database_from(
        "postgres://db/mainstay?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=2"
        "&target_session_attrs=any"
    )
    options = told["OPTIONS"]
    assert (options["sslmode"], options["sslrootcert"]) == ("verify-full", "/ca.pem")
    assert options["connect_timeout"] == "2"
    assert "target_session_attrs" not in options
    assert options["keepalives_idle"] == 10


def test_a_socket_directory_is_a_host() -> None:
    told = database_from("postgresql:///mainstay?host=/run/postgresql")
    assert (told["HOST"], told["NAME"], told["PORT"], told["USER"]) == ("/run/postgresql", "mainstay", "", "")
    assert "target_session_attrs" not in told["OPTIONS"]


@pytest.mark.parametrize("url", ["postgresql://db/mainstay", "sqlite:///srv/mainstay.db", ""])
def test_connections_are_kept_and_asked_before_use(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(django_settings, "data_directory", lambda: tmp_path)
    told = database_from(url)
    assert (told["CONN_MAX_AGE"], told["CONN_HEALTH_CHECKS"]) == (60, True)


def test_sqlite_syncs_every_commit_and_locks_when_it_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(django_settings, "data_directory", lambda: tmp_path)
    told = database_from("")
    assert told["NAME"] == str(tmp_path / "mainstay.db")
    assert told["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "synchronous=FULL" in told["OPTIONS"]["init_command"]
    assert database_from("sqlite:///srv/a%20b.db")["NAME"] == "/srv/a b.db"


def test_nothing_of_the_inside_is_shown_and_every_answer_is_guarded() -> None:
    assert django_settings.DEBUG is False
    assert django_settings.MIDDLEWARE[0] == "mainstay.doors.web.headers.with_safety"
