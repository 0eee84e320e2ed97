"""Sites that keep OpenSSH in front: sshd checks the key, `mainstay ssh serve` holds the conversation."""

import getpass
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.git_client import GitClient
from support.node import Node
from support.people import Person
from support.ports import free_port
from support.servers import program, skip_missing

_numbers = count(1)


class Sshd:
    """An sshd that knows the keys of one person."""

    def __init__(self, directory: Path, node: Node) -> None:
        self.directory = directory
        self.node = node
        self.port = free_port()
        self.authorized_keys = directory / "authorized_keys"
        self.authorized_keys.touch()
        host_key = GitClient(directory / "host").new_key()
        self.config = directory / "sshd_config"
        self.config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {host_key}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.authorized_keys}\nStrictModes no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\n"
        )

    def admit(self, key: Path) -> None:
        """As AuthorizedKeysCommand would, for every sign-in."""
        kind, blob = key.with_suffix(".pub").read_text().split()[:2]
        line = self.node.run("ssh", "authorized-keys", kind, blob).stdout
        self.authorized_keys.write_text(line)

    def url(self, path: str) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}/{path}.git"


@pytest.fixture(scope="module")
def sshd(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with _listening(Sshd(tmp_path_factory.mktemp("sshd"), node)) as server:
        yield server


@pytest.fixture(scope="module")
def asking_sshd(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd that asks `mainstay ssh authorized-keys` at every sign-in, as a site would set it up.

    sshd runs no command that somebody but root could have changed, its directories included.
    """
    if os.geteuid() != 0:
        skip_missing("sshd with AuthorizedKeysCommand", "run the tests as root")
    server = Sshd(tmp_path_factory.mktemp("asking"), node)
    with TemporaryDirectory(dir="/run", prefix="mainstay-test-") as safe:
        ask = Path(safe) / "ask"
        command = shlex.join([sys.executable, "-m", "mainstay", "ssh", "authorized-keys"])
        serve = shlex.join([sys.executable, "-m", "mainstay", "ssh", "serve", "--data", str(node.data)])
        options = f'--data {shlex.quote(str(node.data))} --serve-command {shlex.quote(serve)} "$@"'
        ask.write_text(f"#!/bin/sh\nexec {command} {options}\n")
        ask.chmod(0o755)
        with server.config.open("a") as config:
            config.write(f"AuthorizedKeysCommand {ask} %t %k\nAuthorizedKeysCommandUser root\n")
        with _listening(server):
            yield server


@contextmanager
def _listening(server: Sshd) -> Iterator[Sshd]:
    log = (server.directory / "log").open("wb")
    process = subprocess.Popen(
        [program("sshd"), "-D", "-e", "-f", str(server.config)], stderr=log, stdin=subprocess.DEVNULL
    )
    try:
        _wait_until_listening(process, server)
        yield server
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def _wait_until_listening(process: "subprocess.Popen[bytes]", server: Sshd) -> None:
    deadline_s = time.monotonic() + 20
    while True:
        log = (server.directory / "log").read_text()
        if "Server listening" in log:
            return
        assert process.poll() is None, log
        assert time.monotonic() < deadline_s, log
        time.sleep(0.02)


@pytest.fixture
def work(ada: Person, tmp_path: Path) -> Path:
    return ada.git.repository(tmp_path / "work")


@pytest.mark.parametrize("version", [0, 2])
def test_push_and_clone_go_through_openssh(
    ada: Person, sshd: Sshd, work: Path, tmp_path: Path, version: int
) -> None:
    assert ada.git.key
    sshd.admit(ada.git.key)
    url = sshd.url(f"ada/openssh-{next(_numbers)}")
    pushed = ada.git.try_("push", url, "main", cwd=work)
    assert pushed, pushed.err
    assert "The private project ada/openssh" in pushed.err
    ada.git("-c", f"protocol.version={version}", "clone", "--quiet", url, tmp_path / "clone")
    assert ada.git("rev-parse", "HEAD", cwd=tmp_path / "clone") == ada.git("rev-parse", "HEAD", cwd=work)


def test_there_is_a_greeting_and_no_shell(ada: Person, sshd: Sshd) -> None:
    assert ada.git.key
    sshd.admit(ada.git.key)
    greeted = ada.git.try_ssh(port=sshd.port, user=getpass.getuser())
    assert (greeted.code, greeted.out) == (0, "Welcome to Mainstay, @ada!\n")
    refused = ada.git.try_ssh("id", port=sshd.port, user=getpass.getuser())
    assert (refused.code, refused.out) == (127, "")
    assert refused.err.startswith("ERROR: ")


def test_a_key_that_was_taken_away_is_refused_here_too(ada: Person, sshd: Sshd, tmp_path: Path) -> None:
    """A line may be kept for a while by sshd; who serves it asks again."""
    key = GitClient(tmp_path).new_key()
    made = ada.must("POST", "user/keys", {"title": "short", "key": key.with_suffix(".pub").read_text()})
    sshd.admit(key)
    git = GitClient(tmp_path, key)
    assert git.try_ssh(port=sshd.port, user=getpass.getuser()).code == 0
    ada.must("DELETE", f"user/keys/{made['id']}")
    refused = git.try_ssh(port=sshd.port, user=getpass.getuser())
    assert refused.code == 1
    assert refused.err.startswith("ERROR: this key belongs to nobody here")


def test_an_unknown_key_has_no_line(sshd: Sshd, tmp_path: Path) -> None:
    sshd.admit(GitClient(tmp_path).new_key())
    assert sshd.authorized_keys.read_text() == ""


def test_sshd_asks_for_every_key(
    ada: Person, eve: Person, asking_sshd: Sshd, work: Path, tmp_path: Path
) -> None:
    """Nobody keeps a file of keys: who has none, or is blocked, does not get in at all."""
    url = asking_sshd.url(f"ada/asking-{next(_numbers)}")
    ada.git("push", url, "main", cwd=work)
    ada.git("clone", "-q", url, tmp_path / "clone")
    assert ada.git("rev-parse", "HEAD", cwd=tmp_path / "clone") == ada.git("rev-parse", "HEAD", cwd=work)
    unseen = eve.git.try_("clone", url, tmp_path / "unseen")
    assert "ERROR: repository not found" in unseen.err
    stranger = GitClient(tmp_path / "stranger", GitClient(tmp_path / "stranger").new_key())
    who = getpass.getuser()
    assert "Permission denied" in stranger.try_ssh(port=asking_sshd.port, user=who).err
    asking_sshd.node.run("user", "block", "eve")
    try:
        assert "Permission denied" in eve.git.try_ssh(port=asking_sshd.port, user=who).err
    finally:
        asking_sshd.node.run("user", "unblock", "eve")
    assert eve.git.try_ssh(port=asking_sshd.port, user=who).out == "Welcome to Mainstay, @eve!\n"
