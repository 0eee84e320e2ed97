"""What every command has in common."""

import json

import click
import pytest

from mainstay import cli
from mainstay.cli import config
from mainstay.cli.frame import table
from mainstay.foundation.errors import (
    Conflict,
    Invalid,
    MainstayError,
    NotAllowed,
    NotFound,
    Unavailable,
)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0)


def command_that_raises(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command
    def command() -> None:
        raise error

    monkeypatch.setattr(cli._Commands, "get_command", lambda *_: command)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_in_the_table_exists_and_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "--help") == 0
    assert "Usage: mainstay" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Invalid("a is not b"), 2),
        (NotAllowed("a may not b"), 3),
        (NotFound("no a"), 4),
        (Conflict("a moved"), 5),
        (Unavailable("a is away"), 6),
        (MainstayError("a"), 1),
    ],
)
def test_a_known_error_is_one_sentence_and_the_code_of_its_family(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(error, monkeypatch)
    assert run("serve") == code
    shown = capsys.readouterr()
    assert shown.err == f"mainstay: {error}\n"
    assert shown.out == ""


def test_wrong_usage_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("no-such-command") == 2
    assert run("serve", "--no-such-option") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("mainstay, version ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_learn_our_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", shell) == 0
    assert "_MAINSTAY_COMPLETE" in capsys.readouterr().out


def test_config_check_tells_every_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAINSTAY_HTTP", "nonsense")
    monkeypatch.setenv("MAINSTAY_DRAIN_SECONDS", "-1")
    assert run("config", "check", "--json") == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem.partition(":")[0] for problem in problems] == ["http", "drain_seconds"]


def test_a_password_in_a_url_is_not_shown() -> None:
    assert config.without_password("postgresql://ada:secret@db/x") == "postgresql://ada:***@db/x"
    assert config.without_password("postgresql://ada@db/x") == "postgresql://ada@db/x"
    assert config.without_password("sqlite:///x") == "sqlite:///x"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(["a", "b"], [["long", 1], ["x", 22]]) == "a     b\nlong  1\nx     22"
