"""Real servers for tests: found on this machine, started on a free loopback port, ended by process id.

A server that is not installed skips the test with a reason that starts with `server missing`;
`tests/conftest.py` turns such a skip into a failure when `CI` is set. `tools/servers.sh` installs them.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest

SERVER_MISSING = "server missing"
_DEBIAN_PACKAGES = {
    "postgres": "postgresql",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "strace": "strace",
    "curl": "curl",
    "git-lfs": "git-lfs",
    "node": "nodejs",
    "npm": "npm",
    "nginx": "nginx-light",
    "fcgiwrap": "fcgiwrap",
    "wrk": "wrk",
}
_START_S_MAX = 60
_STOP_S_MAX = 20


def skip_missing(what: str, how: str) -> NoReturn:
    """Skip this test because a server (or a foreign client) is not on this machine."""
    pytest.skip(f"{SERVER_MISSING}: {what} ({how})")


def program(name: str) -> str:
    """The path of an installed program, PATH or not; skips the test when it is not there."""
    found = _find(name)
    if found is None:
        skip_missing(name, f"apt-get install {_DEBIAN_PACKAGES.get(name, name)}, or `make servers` as root")
    return found


def _find(name: str) -> str | None:
    beside_path = ("/usr/sbin", "/usr/local/sbin", "/sbin")
    path = os.pathsep.join([os.environ.get("PATH", ""), *beside_path])
    if found := shutil.which(name, path=path):
        return found
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(versions, key=_postgresql_major, default=None)
    return str(newest) if newest else None


def _postgresql_major(path: Path) -> int:
    version = path.parts[-3]
    return int(version) if version.isdigit() else 0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(
    condition: Callable[[], bool],
    *,
    timeout_s: float,
    what: str,
    still_possible: Callable[[], bool] | None = None,
) -> None:
    """Wait for a state. Fails the test after `timeout_s`, or at once when it is no longer possible."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if still_possible is not None and not still_possible():
            pytest.fail(f"{what}: the process ended")
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.05)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes], *, with_signal: int = signal.SIGTERM) -> None:
    """Ask a process of ours to end, kill it when it does not, and reap it."""
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait(_STOP_S_MAX)


@dataclass(frozen=True, slots=True)
class _User:
    """Whom a server runs as: PostgreSQL refuses to be root."""

    uid: int
    gid: int

    def arguments(self) -> dict[str, object]:
        if os.getuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def _unprivileged_user() -> _User:
    if os.getuid() != 0:
        return _User(os.getuid(), os.getgid())
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _User(entry.pw_uid, entry.pw_gid)
    skip_missing("postgres", "there is no user `postgres` or `nobody` to run it as")


class PostgresqlServer:
    """A private PostgreSQL on a free port of 127.0.0.1, trusting local users. `kill` and `start` at will."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._user = _unprivileged_user()
        self._process: subprocess.Popen[bytes] | None = None
        os.chown(directory, self._user.uid, self._user.gid)
        self._run(
            [program("initdb"), "--pgdata", str(directory / "data"), "--username=postgres"],
            ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"],
        )

    def _run(self, command: list[str], options: list[str]) -> None:
        argv = [*command, *options]
        done = subprocess.run(
            argv, cwd=self._directory, capture_output=True, check=False, timeout=120, **self._user.arguments()
        )  # type: ignore[call-overload]
        assert done.returncode == 0, f"{argv[0]}: {done.stderr.decode(errors='replace')}"

    @property
    def log(self) -> Path:
        return self._directory / "log"

    def start(self) -> None:
        """Start the server and wait until it answers queries."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "100",
            "shared_buffers": "32MB",
            "log_min_messages": "warning",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program("postgres"), "-D", str(self._directory / "data"), *options],
                cwd=self._directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._user.arguments(),
            )  # type: ignore[call-overload]
        wait_until(
            self._answers,
            timeout_s=_START_S_MAX,
            what=f"start of PostgreSQL (see {self.log})",
            still_possible=lambda: self._process is not None and self._process.poll() is None,
        )

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database of `new_database`, whoever is still connected to it."""
        name = url.rpartition("/")[2]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def stop(self) -> None:
        """Fast shutdown: sessions are cut, nothing is lost."""
        if self._process is not None:
            end(self._process, with_signal=signal.SIGINT)

    def kill(self) -> None:
        """Immediate shutdown, as if the postmaster had crashed."""
        if self._process is not None:
            end(self._process, with_signal=signal.SIGQUIT)


@contextlib.contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A started PostgreSQL in a temporary directory; gone afterwards."""
    program("postgres")
    with scratch_directory("mainstay-postgresql-") as directory:
        server = PostgresqlServer(directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """A temporary directory with a short path that another user may enter (pytest's own is private)."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
