"""Two PostgreSQL servers, one the synchronous standby of the other, and nobody who decides but the test.

    with running_pair() as pair:
        pair.freeze(0); pair.promote(1); pair.thaw(0)     now both take themselves for the primary

A pooler can be put in front of them: `running_pgbouncer(pair.servers[0])`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg

from support.postgres import end_with_parent, find_binaries, initialize, unprivileged_user
from support.servers import end, free_port, program, skip_missing, wait_until

_START_S_MAX = 60
_SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_log_hints": "on",
    "wal_keep_size": "'256MB'",
    "max_connections": "100",
    "shared_buffers": "'32MB'",
    "wal_receiver_timeout": "'3s'",
    "wal_sender_timeout": "'3s'",
    "wal_retrieve_retry_interval": "'200ms'",
}


class PairServer:
    """One of the two."""

    def __init__(self, name: str, directory: Path, binaries: Path, user: str | None) -> None:
        self.name = name
        self.data = directory / name
        self.log = directory / f"{name}.log"
        self.port = free_port()
        self._binaries = binaries
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://mainstay@{self.address}/{database}"

    def ask(self, question: str) -> str:
        with closing(psycopg.connect(self.url(), autocommit=True, connect_timeout=5)) as connection:
            row = connection.execute(question.encode()).fetchone()
            assert row is not None
            return str(row[0])

    def do(self, statement: str) -> None:
        with closing(psycopg.connect(self.url(), autocommit=True, connect_timeout=5)) as connection:
            connection.execute(statement.encode())

    def initialize(self) -> None:
        initialize(self._binaries, self.data, self._user)
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in _SETTINGS.items())

    def copy_from(self, other: "PairServer") -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        self._run("pg_basebackup", f"--dbname={other.url()}", f"--pgdata={self.data}", "--checkpoint=fast",
                  "--no-sync", "--write-recovery-conf", "--wal-method=stream")  # fmt: skip
        # The copy has what was set by ALTER SYSTEM, too: once promoted, it would wait for a standby.
        with (self.data / "postgresql.auto.conf").open("a") as conf:
            conf.write("synchronous_standby_names = ''\n")

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.data, "-p", str(self.port)],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd="/",
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - it calls the kernel and nothing else
            )
        process = self._process
        wait_until(
            self._answers,
            timeout_s=_START_S_MAX,
            what=f"start of PostgreSQL (see {self.log})",
            still_possible=lambda: process.poll() is None,
        )

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def is_primary(self) -> bool:
        return self.is_running and self.ask("SELECT pg_is_in_recovery()") == "False"

    def promote(self) -> None:
        self._run("pg_ctl", "promote", f"--pgdata={self.data}", "--wait")

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        if self._process is not None:
            self._signal_all(signal.SIGKILL)
            self._process.wait(_START_S_MAX)
            self._process = None

    def freeze(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self.thaw()
            end(self._process, with_signal=signal.SIGQUIT)
            self._process = None

    def _signal_all(self, number: int) -> None:
        """The parent first, so that it starts nobody anew meanwhile."""
        assert self._process is not None, "it runs"
        parent = self._process.pid
        for pid in [parent, *children_of(parent)]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, tool: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / tool, *arguments],
            check=True,
            capture_output=True,
            user=self._user,
            cwd="/",
            timeout=_START_S_MAX,
        )


class Pair:
    """`servers[0]` is the primary at first."""

    def __init__(self, servers: tuple[PairServer, PairServer]) -> None:
        self.servers = servers

    def url(self, database: str, *, first: int = 0) -> str:
        """Both hosts, in the order that begins with `first`."""
        one, other = self.servers[first], self.servers[1 - first]
        return f"postgresql://mainstay@{one.address},{other.address}/{database}"

    def wait_for_standby(self, primary: int = 0) -> None:
        question = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(
            lambda: self.servers[primary].ask(question) == "1",
            timeout_s=_START_S_MAX,
            what="a synchronous standby",
        )

    def make_primary(self, wanted: int) -> None:
        """Back to one primary and one standby, whatever was done to them; what counts is the other's data."""
        self.servers[wanted].kill()
        self.servers[wanted].copy_from(self.servers[1 - wanted])
        self.servers[wanted].start()
        wait_until(
            lambda: self.servers[1 - wanted].ask("SELECT count(*) FROM pg_stat_replication") == "1",
            timeout_s=_START_S_MAX,
            what="a standby",
        )
        self.servers[1 - wanted].kill()
        self.servers[wanted].promote()
        self.rejoin(1 - wanted)

    def rejoin(self, standby: int) -> None:
        """Make a fresh standby of the other in its place, which commits wait for from then on."""
        primary = self.servers[1 - standby]
        self.servers[standby].kill()
        self.servers[standby].copy_from(primary)
        self.servers[standby].start()
        primary.do("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.do("SELECT pg_reload_conf()")
        self.wait_for_standby(1 - standby)


@contextmanager
def running_pair() -> Iterator[Pair]:
    binaries = find_binaries()
    if binaries is None:
        skip_missing("PostgreSQL", "apt-get install postgresql, or `make servers` as root")
    with tempfile.TemporaryDirectory(prefix="mainstay-pair-", ignore_cleanup_errors=True) as directory:
        user = unprivileged_user(Path(directory))
        servers = [PairServer(name, Path(directory), binaries, user) for name in ("one", "two")]
        pair = Pair((servers[0], servers[1]))
        with ExitStack() as stack:
            for server in servers:
                stack.callback(server.stop)
            servers[0].initialize()
            servers[0].start()
            pair.rejoin(1)
            yield pair


@contextmanager
def running_pgbouncer(server_port: int) -> Iterator[int]:
    """PgBouncer in transaction mode in front of a server; its port."""
    binary = program("pgbouncer")
    with tempfile.TemporaryDirectory(prefix="mainstay-pgbouncer-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        user = unprivileged_user(home)
        port = free_port()
        (home / "users.txt").write_text('"mainstay" ""\n')
        (home / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server_port} user=mainstay\n"
            "[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {home}/users.txt\n"
            f"pidfile = {home}/pid\nlogfile = {home}/log\npool_mode = transaction\n"
            "default_pool_size = 20\nmax_client_conn = 500\nserver_round_robin = 1\n"
        )
        for file in home.iterdir():
            file.chmod(0o644)
        with (home / "out").open("wb") as out:
            process = subprocess.Popen(
                [binary, "-q", str(home / "pgbouncer.ini")],
                stdout=out,
                stderr=out,
                user=user,
                cwd="/",
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - it calls the kernel and nothing else
            )
        try:
            wait_until(
                lambda: _greets(port),
                timeout_s=_START_S_MAX,
                what=f"start of PgBouncer: {(home / 'out').read_text()}",
                still_possible=lambda: process.poll() is None,
            )
            yield port
        finally:
            end(process, with_signal=signal.SIGQUIT)


def _greets(port: int) -> bool:
    try:
        psycopg.connect(f"postgresql://mainstay@127.0.0.1:{port}/postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def children_of(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []
