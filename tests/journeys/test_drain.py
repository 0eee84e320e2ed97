"""A node that is told to stop: what was begun ends well, or ends without a promise."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from support.git_client import GitClient, fsck
from support.long import only_long
from support.node import Node
from support.people import Person, person

_LARGE_BYTES = 12 << 20
"""Far more than fits the buffers between a server and a client that does not read."""
_FILES = 1_100
"""Enough objects for the worker to make a base pack of them."""

# Passes on a megabyte of what ssh says, then waits for a file before it passes on the rest.
_GATED_SSH = """\
import os, subprocess, sys, time
ssh = subprocess.Popen([*{ssh!r}, *sys.argv[1:]], stdout=subprocess.PIPE)
passed = 0
while chunk := os.read(ssh.stdout.fileno(), 65536):
    os.write(1, chunk) == len(chunk) or sys.exit("short write")
    passed += len(chunk)
    if passed > 1 << 20:
        open({waiting!r}, "w").close()
        while not os.path.exists({gate!r}):
            time.sleep(0.02)
sys.exit(ssh.wait())
"""


@dataclass
class Stopping:
    """A stop under way, beside the test."""

    node: Node
    codes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=lambda: self.codes.append(self.node.stop()))
        self._thread.start()

    def ended(self, *, within_s: float) -> int:
        self._thread.join(within_s)
        assert self.codes, f"still there after {within_s} s\n{self.node.log_end()}"
        return self.codes[0]


def wait_until(question: Callable[[], bool], *, within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not question():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def running(node: Node, home: Path, failpoints: str = "", **environment: str) -> Iterator[Person]:
    node.environment = {"MAINSTAY_FAILPOINTS": failpoints, **environment}
    with node:
        yield person(node, home, "ada")


def restart_with(node: Node, failpoints: str) -> None:
    node.environment["MAINSTAY_FAILPOINTS"] = failpoints
    node.restart()


def is_received(node: Node) -> bool:
    """A push is under way that will wait at its failpoint."""
    return any(entry.is_dir() for entry in (node.data / "quarantine").iterdir())


Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started() -> Iterator[Started]:
    """Start git and come back at once; what still runs after the test is ended."""
    processes: list[subprocess.Popen[str]] = []

    def start(git: GitClient, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["git", *arguments],
            cwd=cwd,
            env=git.environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what git started holds its pipe open
        process.communicate()


def rows(node: Node, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(node.data / "mainstay.db")) as database:
        return database.execute(statement).fetchall()


def large_repository(git: GitClient, directory: Path) -> Path:
    work = git.repository(directory)
    (work / "large").write_bytes(Random(7).randbytes(_LARGE_BYTES))
    git.commit(work, "more", "more\n")
    return work


def test_what_was_begun_before_a_stop_ends_well(started: Started, tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    with running(node, tmp_path / "ada", MAINSTAY_DRAIN_NOTICE_SECONDS="2") as ada:
        work = large_repository(ada.git, tmp_path / "work")
        ada.git("push", ada.url("ada/engine"), "main", cwd=work)
        restart_with(node, "push.objects_stored=sleep:12")
        waiting, gate = tmp_path / "waiting", tmp_path / "gate"
        script = tmp_path / "ssh.py"
        script.write_text(_GATED_SSH.format(ssh=ada.git.ssh, waiting=str(waiting), gate=str(gate)))
        slow_git = GitClient(tmp_path / "slow", ada.git.key)
        slow_git.environment["GIT_SSH_COMMAND"] = f"{sys.executable} {script}"
        clone = started(slow_git, "clone", "-q", ada.ssh_url("ada/engine"), "copy", cwd=tmp_path)
        wait_until(waiting.exists)
        last = ada.git.commit(work, "last", "last\n")
        push = started(ada.git, "push", ada.url("ada/engine"), "main", cwd=work)
        wait_until(lambda: is_received(node))

        stopping = Stopping(node)
        wait_until(lambda: node.get("/-/readiness")[0] == 503)
        wait_until(lambda: refuses(node.http_port) and refuses(node.ssh_port))
        assert push.poll() is None, "the push was still under way"
        _, said = push.communicate(timeout=60)
        assert push.returncode == 0, said
        assert clone.poll() is None
        gate.touch()
        _, said = clone.communicate(timeout=60)
        assert clone.returncode == 0, said
        assert stopping.ended(within_s=30) == 0

        fsck(ada.git, tmp_path / "copy")
        node.start()
        assert ada.git.refs(ada.url("ada/engine"))["refs/heads/main"] == last


@only_long
def test_a_push_that_takes_longer_than_the_drain_is_cut_without_a_promise(
    started: Started, tmp_path: Path
) -> None:
    node = Node(tmp_path / "node")
    with running(node, tmp_path / "ada", MAINSTAY_DRAIN_SECONDS="2") as ada:
        work = ada.git.repository(tmp_path / "work")
        ada.git("push", ada.url("ada/engine"), "main", cwd=work)
        restart_with(node, "push.objects_stored=sleep:120")
        before = ada.git("rev-parse", "HEAD", cwd=work)
        after = ada.git.commit(work, "last", "last\n")
        push = started(ada.git, "push", ada.url("ada/engine"), "main", cwd=work)
        wait_until(lambda: is_received(node))
        stopping = Stopping(node)
        _, said = push.communicate(timeout=30)
        assert push.returncode != 0, said
        assert "main -> main" not in said.replace("(unexpected disconnect", "")
        assert stopping.ended(within_s=30) == 0

        node.environment = {}
        node.start()
        assert ada.git.refs(ada.url("ada/engine"))["refs/heads/main"] == before
        assert list((node.data / "quarantine").iterdir()) == []
        ada.git("push", ada.url("ada/engine"), "main", cwd=work)
        assert ada.git.refs(ada.url("ada/engine"))["refs/heads/main"] == after


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(started: Started, tmp_path: Path, number: signal.Signals) -> None:
    node = Node(tmp_path / "node")
    with running(node, tmp_path / "ada", "push.objects_stored=sleep:120") as ada:
        work = ada.git.repository(tmp_path / "work")
        push = started(ada.git, "push", ada.url("ada/engine"), "main", cwd=work)
        wait_until(lambda: is_received(node))
        serve = node.pids()["serve"]
        stopping = Stopping(node)
        wait_until(lambda: node.state().get("phase") == "draining")
        began_s = time.monotonic()
        os.kill(serve, number)
        stopping.ended(within_s=30)
        assert time.monotonic() - began_s < 25, "far less than drain_seconds"
        _, said = push.communicate(timeout=30)
        assert push.returncode != 0, said


def test_the_worker_finishes_the_job_it_has(tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    with running(node, tmp_path / "ada", "swap.objects_stored=sleep:4") as ada:
        work = ada.git.repository(tmp_path / "work")
        for number in range(_FILES):
            (work / f"file-{number}").write_text(f"content of {number}\n")
        ada.git.commit(work, "last", "last\n")
        ada.git("push", ada.url("ada/engine"), "main", cwd=work)
        in_manifest = "SELECT kind FROM ledger_pack p JOIN ledger_repository_pack m ON m.pack_id = p.id"
        packs = node.data / "objects" / "repositories"
        wait_until(lambda: len(list(packs.rglob("*.pack"))) == 2)
        assert rows(node, in_manifest) == [("receive",)], "the base pack is stored, and nobody was told"
        assert node.stop() == 0
        assert rows(node, in_manifest) == [("base",)]
        assert rows(node, "SELECT id FROM ledger_upload_intent") == []
        assert rows(node, "SELECT version FROM ledger_change WHERE NOT journaled") == []
