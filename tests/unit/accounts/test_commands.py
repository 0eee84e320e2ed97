"""`mainstay user`, `token`, `project` and `ssh authorized-keys`, in this process, on a file of their own."""

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import structlog

from mainstay.cli import main
from mainstay.foundation.clock import SYSTEM
from mainstay.product.accounts import identify, services
from mainstay.product.accounts.first_start import first_start
from mainstay.product.accounts.models import User
from mainstay.product.accounts.settings import DEFAULTS
from mainstay.storage.database.django import DjangoDatabase
from support.product import make_user, on_file, public_key

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command line and returns exit code, standard output and standard error."""

    def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
        capsys.readouterr()  # what the test's own preparations said
        with mock.patch("sys.stdin", io.StringIO(stdin)), pytest.raises(SystemExit) as ended:
            main([*words, "--data", str(tmp_path)])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    with mock.patch.dict(os.environ), on_file(tmp_path), quiet_logs():
        yield run


@contextmanager
def quiet_logs() -> Iterator[None]:
    """A command sets up the logs of its process, and this process goes on after it."""

    def configure(**_: object) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

    with mock.patch("mainstay.foundation.logs.configure", configure):
        yield
    structlog.reset_defaults()


def test_creating_a_token_prints_only_the_token(run: Run) -> None:
    make_user("root", is_admin=True)
    code, out, _ = run("token", "create", "--user", "root", "--name", "ci", "--scopes", "api,sudo")
    assert code == 0
    actor = identify.by_token(DjangoDatabase(), out.removesuffix("\n"), address="192.0.2.1", clock=SYSTEM)
    assert (actor.name, actor.scopes) == ("root", {"api", "sudo"})


def test_tokens_are_listed_without_their_secrets_and_revoked(run: Run) -> None:
    make_user("ada")
    _, token, _ = run(
        "token", "create", "--user", "ada", "--name", "ci", "--scopes", "api", "--expires", "2999-01-01"
    )
    _, out, _ = run("token", "list", "--user", "ada", "--json")
    assert token.strip() not in out
    (row,) = json.loads(out)
    assert (row["name"], row["active"], row["expires_at"]) == ("ci", True, "2999-01-01T00:00:00.000Z")
    assert run("token", "revoke", str(row["id"]))[0] == 0
    assert json.loads(run("token", "list", "--json")[1])[0]["active"] is False
    with pytest.raises(identify.WrongCredentials):
        identify.by_token(DjangoDatabase(), token.strip(), address="192.0.2.1", clock=SYSTEM)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("token", "create", "--user", "nobody", "--name", "x", "--scopes", "api"), 4),
        (("token", "create", "--user", "ada", "--name", "x", "--scopes", "nonsense"), 2),
        (("token", "create", "--user", "ada", "--name", "x", "--scopes", "sudo"), 2),
        (
            ("token", "create", "--user", "ada", "--name", "x", "--scopes", "api", "--expires", "2001-01-01"),
            2,
        ),
        (("token", "create", "--user", "ada"), 2),
        (("token", "revoke", "99"), 4),
        (("user", "create", "ADA"), 5),
        (("user", "create", "admin"), 2),
        (("user", "block", "nobody"), 4),
        (("project", "create", "nowhere/engine"), 4),
        (("project", "create", "ada/-"), 2),
        (("project", "delete", "ada/none", "--yes"), 4),
        (("ssh", "authorized-keys", "nonsense"), 2),
    ],
)
def test_a_refusal_has_the_exit_code_of_its_family(run: Run, words: tuple[str, ...], code: int) -> None:
    make_user("ada")
    got, out, err = run(*words)
    assert (got, out) == (code, "")
    assert err


def test_a_user_is_created_listed_blocked_and_unblocked(run: Run) -> None:
    assert run("user", "create", "ada", "--email", "ada@example.org", "--admin")[0] == 0
    (row,) = json.loads(run("user", "list", "--json")[1])
    assert (row["username"], row["admin"], row["state"]) == ("ada", True, "active")
    assert json.loads(run("user", "block", "ada", "--json")[1])["state"] == "blocked"
    assert "ada" in run("user", "list", "--search", "ad")[1]
    assert json.loads(run("user", "unblock", "ada", "--json")[1])["state"] == "active"


def test_a_new_password_of_root_removes_the_file(run: Run, tmp_path: Path) -> None:
    first_start(tmp_path)
    assert (tmp_path / "initial_root_password").exists()
    assert run("user", "password", "root", "--password-stdin", stdin="short\n")[0] == 2
    assert (tmp_path / "initial_root_password").exists()
    code, out, err = run("user", "password", "root", "--password-stdin", stdin="battery staple\n")
    assert code == 0
    assert "staple" not in out + err
    assert not (tmp_path / "initial_root_password").exists()
    actor = identify.by_password(
        DjangoDatabase(), "root", "battery staple", address="192.0.2.1", clock=SYSTEM, settings=DEFAULTS
    )
    assert actor.is_admin


def test_a_project_is_created_listed_and_deleted(run: Run) -> None:
    ada = make_user("ada")
    row = json.loads(run("project", "create", "ada/engine", "--visibility", "internal", "--json")[1])
    assert (row["path"], row["visibility"]) == ("ada/engine", "internal")
    assert run("project", "create", "ada/Engine")[0] == 5
    assert ada.namespace.projects.get().creator == ada
    assert [each["path"] for each in json.loads(run("project", "list", "--under", "ada", "--json")[1])] == [
        "ada/engine"
    ]
    assert run("project", "delete", "ada/engine", stdin="n\n")[0] != 0
    assert run("project", "delete", "ada/engine", "--yes")[0] == 0
    assert json.loads(run("project", "list", "--json")[1]) == []


def test_openssh_gets_the_line_of_one_key(run: Run) -> None:
    ada = make_user("ada")
    line = public_key()
    key = services.add_ssh_key(ada, line)
    expected = f'--fingerprint {key.fingerprint}",restrict {line}\n'
    for words in ([key.fingerprint], line.split()):
        code, out, _ = run("ssh", "authorized-keys", *words, "--serve-command", 'main"stay ssh serve')
        assert (code, out) == (0, f'command="main\\"stay ssh serve {expected}')


def test_openssh_gets_nothing_for_strangers_and_the_blocked(run: Run) -> None:
    ada = make_user("ada")
    key = services.add_ssh_key(ada, public_key())
    services.block(User.objects.get())
    for words in ([key.fingerprint], public_key().split(), ["SHA256:unknown"]):
        assert run("ssh", "authorized-keys", *words)[:2] == (0, "")
