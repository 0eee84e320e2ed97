"""A private PostgreSQL server for the tests: its own directory, its own port on the loopback, no fsync.

Found in PATH or where Debian puts it. Root cannot run it, so as root it runs as `postgres` or `nobody`.
When there is none, tests that need it are skipped with a sentence; with `CI=true` that is a failure.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

_START_S_MAX = 60


def find_binaries() -> Path | None:
    """The directory that holds `postgres` and `initdb`, the newest version first."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    on_path = shutil.which("initdb")
    candidates = [*installed, *([Path(on_path).resolve().parent] if on_path else [])]
    return next(
        (bin_ for bin_ in candidates if all((bin_ / p).exists() for p in ("postgres", "initdb"))), None
    )


def _version(directory: Path) -> int:
    return int(directory.parent.name) if directory.parent.name.isdigit() else 0


class PostgresServer:
    """A running server. `url(name)` for one of its databases; `create_database` makes one."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, database: str) -> str:
        return f"postgresql://mainstay@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template0") -> str:
        """A fresh database, a copy of `template`, and its name."""
        name = f"test_{uuid4().hex[:16]}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return name

    def drop_database(self, name: str) -> None:
        """Also ends the connections that a test left open."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for the length of the block; skips the test (or fails, in CI) when none is installed."""
    binaries = find_binaries()
    if binaries is None:
        skip_or_fail("no PostgreSQL server found (install `postgresql`)")
    with tempfile.TemporaryDirectory(prefix="mainstay-postgres-", ignore_cleanup_errors=True) as directory:
        data = Path(directory) / "data"
        user = _unprivileged_user(Path(directory))
        _initialize(binaries, data, user)
        with _started(binaries, data, user) as server:
            yield server


def skip_or_fail(reason: str) -> Any:
    """For any server that is missing on this machine."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true does not allow to skip")
    pytest.skip(reason)


def _unprivileged_user(directory: Path) -> str | None:
    """Who runs the server: nobody else unless we are root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = next(name for name in ("postgres", "nobody") if name in names)
    directory.chmod(0o755)
    shutil.chown(directory, user)
    return user


def _initialize(binaries: Path, data: Path, user: str | None) -> None:
    command = [binaries / "initdb", "-D", data, "-U", "mainstay", "--auth=trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(
        [*command, "--locale=C"], check=True, capture_output=True, user=user, cwd="/", timeout=_START_S_MAX
    )


@contextmanager
def _started(binaries: Path, data: Path, user: str | None) -> Iterator[PostgresServer]:
    port = _free_port()
    log_path = data.parent / "log"
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": 200,
        "shared_buffers": "64MB",
    }
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, *settings],
            stdout=log,
            stderr=log,
            user=user,
            cwd="/",
            start_new_session=True,  # Ctrl-C of the test run is not for it
        )
    try:
        server = PostgresServer(port)
        _wait_until_ready(server, process, log_path)
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown
        try:
            process.wait(timeout=_START_S_MAX)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=_START_S_MAX)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: PostgresServer, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
    deadline = time.monotonic() + _START_S_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"PostgreSQL ended while starting:\n{log_path.read_text()}")
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"PostgreSQL did not answer within {_START_S_MAX} s:\n{log_path.read_text()}")
