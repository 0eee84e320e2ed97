"""Flags before environment before file before defaults; every problem at once."""

from pathlib import Path

import pytest

from mainstay.boot import settings
from mainstay.boot.parsing import Address
from mainstay.boot.settings import InvalidSettings, as_text, assemble, load, load_for_command, remember


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "environment", dict)


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    monkeypatch.setattr(settings, "environment", lambda: variables)


def test_defaults_live_in_the_data_directory(tmp_path: Path) -> None:
    chosen = load({"data": str(tmp_path)})
    assert chosen.http == Address("127.0.0.1", 8080)
    assert chosen.ssh == Address("127.0.0.1", 2222)
    assert chosen.database_url == f"sqlite://{tmp_path}/mainstay.db"
    assert chosen.object_store == f"file://{tmp_path}/objects"
    assert chosen.drain_seconds == 60


@pytest.mark.parametrize(
    ("url", "given", "seconds"),
    [
        ("sqlite:////srv/mainstay.db", None, 0),
        ("postgresql://db/mainstay", None, 3),
        ("postgresql://db/mainstay", "0", 0),
        ("sqlite:////srv/mainstay.db", "7", 7),
    ],
)
def test_a_stop_is_announced_where_there_may_be_a_balancer(
    tmp_path: Path, url: str, given: str | None, seconds: int
) -> None:
    chosen = load({"data": str(tmp_path), "database_url": url, "drain_notice_seconds": given})
    assert chosen.drain_notice_seconds == seconds
    assert as_text(chosen)["drain_notice_seconds"] == str(seconds)


def test_a_flag_beats_the_environment_which_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mainstay.toml").write_text(
        'http = "127.0.0.1:1"\nssh = "127.0.0.1:1"\n'
        'web_threads = 7\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n'
    )
    environment(monkeypatch, DATA=str(tmp_path), HTTP="127.0.0.1:2", SSH="127.0.0.1:2")
    chosen = load({"http": "127.0.0.1:3", "ssh": None})
    assert (chosen.http.port, chosen.ssh.port, chosen.web_threads) == (3, 2, 7)
    assert [str(network) for network in chosen.trusted_proxies] == ["10.0.0.0/8", "::1/128"]


def test_every_problem_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mainstay.toml").write_text('colour = "red"\nweb_threads = 1000\n')
    environment(monkeypatch, HTTP="8080", DATABASE_URL="mysql://x", OBJECT_STORE="ftp://x")
    with pytest.raises(InvalidSettings) as caught:
        load({"data": str(tmp_path), "ssh": "::1:22"})
    told = "\n".join(caught.value.problems)
    for name in ("colour", "web_threads", "http", "ssh", "database_url", "object_store"):
        assert name in told
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize("content", ["= nonsense", 'http = "\xff"'])
def test_a_broken_file_is_a_problem_not_a_crash(tmp_path: Path, content: str) -> None:
    (tmp_path / "mainstay.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidSettings, match=r"cannot read .*mainstay\.toml"):
        load({"data": str(tmp_path)})


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="No such file"):
        load({"data": str(tmp_path)}, config=tmp_path / "missing.toml")


def test_settings_survive_the_way_to_a_child(tmp_path: Path) -> None:
    odd = load({"data": str(tmp_path / "with space"), "http": "[::1]:0"})
    assert assemble(odd.data, [as_text(odd)]) == odd


def test_a_command_uses_what_the_last_serve_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "mainstay.toml").write_text('database_url = "postgresql://from-file/x"\n')
    remember(load({"data": str(tmp_path), "database_url": "postgresql://chosen/x"}))
    assert load_for_command(tmp_path).database_url == "postgresql://chosen/x"
    environment(monkeypatch, DATABASE_URL="postgresql://from-environment/x")
    assert load_for_command(tmp_path).database_url == "postgresql://from-environment/x"
    assert (tmp_path / "run" / "settings.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("objects", ["", "s3://elsewhere/prefix"])
def test_a_command_on_a_copy_of_the_data_touches_nothing_at_its_old_place(
    tmp_path: Path, objects: str
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "run").mkdir(parents=True)
    remember(load({"data": str(old), "object_store": objects or None}))
    old.rename(new)
    settings = load_for_command(new)
    assert settings == load({"data": str(new), "object_store": objects or None})
    assert str(new / "mainstay.db") in settings.database_url


def test_the_health_token_is_neither_shown_nor_written_down(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "mainstay.toml").write_text('health_token = "hunter2"\n')
    chosen = load({"data": str(tmp_path)})
    remember(chosen)
    assert chosen.health_token.reveal() == "hunter2"
    assert "hunter2" not in repr(chosen)
    assert "hunter2" not in (tmp_path / "run" / "settings.json").read_text()
