"""The demo as a visitor has it: started by its command, pushed to while everything in it is killed once."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mainstay.provision.processes import identity_of, is_alive
from mainstay.provision.programs import ProgramMissing, rgw_root
from support.git_client import GitClient
from support.long import only_long
from support.servers import program, skip_missing

READY_S_MAX = 240.0
"""On a machine that also runs other tests; alone it takes half a minute."""
HEALED_S_MAX = 120.0
PUSHED_S_MAX = 180.0
PAUSE_S = 1.5
_MAINSTAY = [sys.executable, "-m", "mainstay"]

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    for name in ("postgres", "etcd", "patroni", "haproxy", "redis-server"):
        program(name)
    try:
        rgw_root()
    except ProgramMissing as error:
        skip_missing("Ceph RGW", f"tools/rgw.sh fetch; {error}")


@dataclass
class Demo:
    """`mainstay cluster demo` in a terminal of its own."""

    directory: Path
    process: subprocess.Popen[str] = field(init=False)
    said: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.errors = self.directory.with_suffix(".err")
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                self._command("--json"),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=_environment(),
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> dict[str, Any]:
        _wait_until(lambda: self.picture() is not None or self.process.poll() is not None, READY_S_MAX)
        picture = self.picture()
        assert picture is not None, f"{self.said}\n{self.errors.read_text()}"
        return picture

    def picture(self) -> dict[str, Any] | None:
        """What was printed when it was ready."""
        return next((line for line in self.said if "root_password" in line), None)

    def run(self, *words: str, exit_code: int = 0) -> str:
        """The same command in another terminal."""
        done = subprocess.run(
            self._command(*words),
            capture_output=True,
            text=True,
            env=_environment(),
            timeout=300,
            check=False,
        )
        assert done.returncode == exit_code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        done = subprocess.run(
            self._command("status", "--json"), capture_output=True, text=True, env=_environment(), check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def wait_until_all_is_up(self) -> None:
        def all_up() -> bool:
            members = self.status()["members"]
            roles = [member["role"] for member in members]
            return all(each["state"] == "up" for each in members) and "sync standby" in roles

        _wait_until(all_up, HEALED_S_MAX)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.run("stop")
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _command(self, *words: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "mainstay",
            "cluster",
            "demo",
            "--directory",
            str(self.directory),
            *words,
        ]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))


class Pushes:
    """Somebody who pushes without end and remembers what was acknowledged. One retry each is allowed."""

    def __init__(self, git: GitClient, url: str) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self.forgiving = False
        """While something is away that pushes cannot do without."""
        self._git = git
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._work = git.repository(git.home / "work", files=1)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(PUSHED_S_MAX)
        assert not self._thread.is_alive()

    def wait_for_another(self) -> None:
        """A push that began after this call is acknowledged."""
        before = len(self.acknowledged)
        _wait_until(lambda: len(self.acknowledged) > before + 1, PUSHED_S_MAX)

    def _run(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            commit = self._git.commit(self._work, "number", f"{number}\n")
            if self._is_acknowledged():
                self.acknowledged.append(commit)

    def _is_acknowledged(self) -> bool:
        for try_number in (1, 2):
            done = self._git.try_("push", self._url, "main", cwd=self._work)
            if done:
                return True
            if try_number == 1:
                self._over.wait(PAUSE_S)
        if not self.forgiving:
            self.refused.append(done.err)
        return False


@only_long
def test_a_visitor_pushes_while_everything_is_killed_once(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "demo")
    try:
        picture = demo.wait_until_ready()
        assert sum(member["what"] == "Mainstay" for member in picture["members"]) == 3
        loops = [_over_http(tmp_path, picture), _over_ssh(tmp_path, picture, demo)]
        for loop in loops:
            loop.begin()
        _kill_everything_once(demo, loops)
        for loop in loops:
            loop.end()
        assert [loop.refused for loop in loops] == [[], []]
        _nothing_was_lost(tmp_path, picture, loops)
        _ends_cleanly(demo)
    finally:
        demo.end()


def _kill_everything_once(demo: Demo, loops: list[Pushes]) -> None:
    for name in ("node2", "database", "redis", "lb"):
        demo.run("kill", name)
        for loop in loops:
            loop.wait_for_another()
    for loop in loops:
        loop.forgiving = True  # what is pushed has to be kept somewhere
    demo.run("kill", "store")
    assert "store" in [each["name"] for each in demo.status()["members"] if each["state"] != "up"]
    demo.run("start")
    for loop in loops:
        loop.wait_for_another()
        loop.forgiving = False
    demo.wait_until_all_is_up()
    demo.run("status")


def _over_http(tmp_path: Path, picture: dict[str, Any]) -> Pushes:
    git = GitClient(tmp_path / "http")
    return Pushes(git, f"{_with_password(picture)}/root/over-http.git")


def _over_ssh(tmp_path: Path, picture: dict[str, Any], demo: Demo) -> Pushes:
    key = GitClient(tmp_path / "ssh").new_key()
    token = subprocess.run(
        [
            *_MAINSTAY,
            "token",
            "create",
            "--data",
            str(demo.directory / "node3"),
            "--user",
            "root",
            "--name",
            "t",
            "--scopes",
            "api",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    ).stdout.strip()
    body = json.dumps({"title": "visitor", "key": key.with_suffix(".pub").read_text()}).encode()
    headers = {"PRIVATE-TOKEN": token, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{picture['http']}/api/v4/user/keys", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 201
    return Pushes(GitClient(tmp_path / "ssh", key), f"{picture['ssh']}/root/over-ssh.git")


def _nothing_was_lost(tmp_path: Path, picture: dict[str, Any], loops: list[Pushes]) -> None:
    git = GitClient(tmp_path / "reader")
    for name, loop in zip(("over-http", "over-ssh"), loops, strict=True):
        assert loop.acknowledged
        for node in [member for member in picture["members"] if member["what"] == "Mainstay"]:
            copy = tmp_path / f"{name}-{node['name']}"
            git(
                "clone",
                "--quiet",
                "--bare",
                f"{_with_password(picture, node['address'])}/root/{name}.git",
                copy,
            )
            there = set(git("rev-list", "main", cwd=copy).split())
            assert set(loop.acknowledged) <= there, f"{node['name']} lost pushes {name}"


def _ends_cleanly(demo: Demo) -> None:
    ports = [int(member["address"].rpartition(":")[2]) for member in demo.status()["members"]]
    everybody = _descendants_of_notes(demo.directory)
    assert everybody
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(120) == 0, demo.errors.read_text()
    assert [each for each in everybody if is_alive(each)] == []
    assert [port for port in ports if _is_listening(port)] == []
    assert not demo.directory.exists()


def test_a_demo_that_was_killed_is_cleaned_up_by_the_next_command(tmp_path: Path) -> None:
    with _starting_demo(tmp_path) as demo:
        _wait_until(lambda: _has_postgres(demo.directory) or demo.process.poll() is not None, READY_S_MAX)
        everybody = _descendants_of_notes(demo.directory)
        demo.process.kill()
        demo.process.wait()
        assert "mainstay cluster demo" in _stderr_of(demo, "status")
        demo.run("stop")
        assert [each for each in everybody if is_alive(each)] == []
        assert not demo.directory.exists()


def test_a_demo_that_is_stopped_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    with _starting_demo(tmp_path) as demo:
        _wait_until(lambda: _has_postgres(demo.directory) or demo.process.poll() is not None, READY_S_MAX)
        everybody = _descendants_of_notes(demo.directory)
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(120) == 0, demo.errors.read_text()
        assert [each for each in everybody if is_alive(each)] == []
        assert not demo.directory.exists()


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "demo"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    demo = Demo(mine)
    try:
        assert demo.process.wait(60) == 5
        assert "holds something else" in demo.errors.read_text()
        assert (mine / "thesis.txt").read_text() == "years of work"
    finally:
        demo.end()


@contextmanager
def _starting_demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path / "demo")
    try:
        yield demo
    finally:
        demo.end()


def _has_postgres(directory: Path) -> bool:
    """Some of its processes run."""
    return len(_descendants_of_notes(directory)) >= 4


def _descendants_of_notes(directory: Path) -> list[Any]:
    """What the demo noted as running, with their start times."""
    try:
        noted = json.loads((directory / "demo.json").read_text())["processes"]
    except FileNotFoundError:
        return []
    found = [identity_of(each["pid"]) for each in noted]
    return [each for each in found if each is not None]


def _stderr_of(demo: Demo, *words: str) -> str:
    done = subprocess.run(
        demo._command(*words), capture_output=True, text=True, env=_environment(), check=False
    )
    return done.stderr


def _with_password(picture: dict[str, Any], address: str | None = None) -> str:
    where = address or picture["http"].removeprefix("http://")
    return f"http://root:{picture['root_password']}@{where}"


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MAINSTAY_")}


def _wait_until(condition: Callable[[], bool], within_s: float) -> None:
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, "it did not come true in time"
        time.sleep(0.1)
