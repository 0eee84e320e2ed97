"""A private PostgreSQL server for the tests: its own directory, its own port on the loopback, no fsync.

Found in PATH or where Debian puts it. Root cannot run it, so as root it runs as `postgres` or `nobody`.
When there is none, tests that need it are skipped with a sentence; with `CI=true` that is a failure.
`support.databases` has the fixtures.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg

from support.ports import free_port
from support.servers import end, skip_missing, wait_until

_START_S_MAX = 60
_PR_SET_PDEATHSIG = 1


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
        skip_missing("PostgreSQL", "apt-get install postgresql, or `make servers` as root")
    with tempfile.TemporaryDirectory(prefix="mainstay-postgres-", ignore_cleanup_errors=True) as directory:
        data = Path(directory) / "data"
        user = unprivileged_user(Path(directory))
        initialize(binaries, data, user)
        with _started(binaries, data, user) as server:
            yield server


def unprivileged_user(directory: Path) -> str | None:
    """Who runs the server: nobody else unless we are root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = next(name for name in ("postgres", "nobody") if name in names)
    directory.chmod(0o755)
    shutil.chown(directory, user)
    return user


def initialize(binaries: Path, data: Path, user: str | None) -> None:
    command = [binaries / "initdb", "-D", data, "-U", "mainstay", "--auth=trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(
        [*command, "--locale=C"], check=True, capture_output=True, user=user, cwd="/", timeout=_START_S_MAX
    )


@contextmanager
def _started(binaries: Path, data: Path, user: str | None) -> Iterator[PostgresServer]:
    port = free_port()
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
            preexec_fn=end_with_parent,  # noqa: PLW1509 - it calls the kernel and nothing else
        )
    try:
        server = PostgresServer(port)
        wait_until(
            lambda: _answers(server),
            timeout_s=_START_S_MAX,
            what=f"start of PostgreSQL (see {log_path})",
            still_possible=lambda: process.poll() is None,
        )
        yield server
    finally:
        end(process, with_signal=signal.SIGQUIT)  # at once: there is nothing to keep


def _answers(server: PostgresServer) -> bool:
    try:
        psycopg.connect(server.url("postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def end_with_parent() -> None:
    """Ask the kernel to stop the server when the test run is killed and cannot do it itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
