"""Two PostgreSQL servers, one the synchronous standby of the other, and nobody who decides but the test.

    with running_pair() as pair:
        pair.primary.freeze(); pair.promote(); pair.standby.thaw()     both take themselves for the primary

A pooler can be put in front of a server: `running_pgbouncer(server.port)`.
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

from support.ports import free_port
from support.postgres import end_with_parent, find_binaries, initialize, unprivileged_user
from support.servers import end, program, skip_missing, wait_until

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
            self.answers,
            timeout_s=_START_S_MAX,
            what=f"start of PostgreSQL (see {self.log})",
            still_possible=lambda: process.poll() is None,
        )

    @property
    def is_running(self) -> bool:
        return self._process is not None

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

    def answers(self) -> bool:
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
    """Who of the two is the primary changes with every `promote`."""

    def __init__(self, one: PairServer, two: PairServer) -> None:
        self.primary = one
        self.standby = two

    def url(self, database: str, *, primary_first: bool = True) -> str:
        """Both hosts, in the order asked for."""
        hosts = [self.primary.address, self.standby.address]
        if not primary_first:
            hosts.reverse()
        return f"postgresql://mainstay@{','.join(hosts)}/{database}"

    def promote(self) -> None:
        """The standby becomes the primary, whatever the old one does; it waits for no standby of its own."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def fail_over(self) -> None:
        self.primary.kill()
        self.promote()

    def restore(self) -> None:
        """Make a fresh standby of the other one, unless it is a good one; commits wait for it."""
        for server in (self.primary, self.standby):
            if server.is_running:
                server.thaw()
        if not (self.standby.is_running and self._has_standby()):
            self.standby.kill()
            self.standby.copy_from(self.primary)
            self.standby.start()
            self.primary.do("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.primary.do("SELECT pg_reload_conf()")
        wait_until(self._has_standby, timeout_s=_START_S_MAX, what="a synchronous standby")

    def drop_databases(self, like: str) -> None:
        """The next copy has that much less to carry."""
        names = self.primary.ask(
            f"SELECT string_agg(datname, ',') FROM pg_database WHERE datname LIKE '{like}'"
        )
        for name in filter(None, names.replace("None", "").split(",")):
            self.primary.do(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _has_standby(self) -> bool:
        return self.primary.ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"


@contextmanager
def running_pair() -> Iterator[Pair]:
    binaries = find_binaries()
    if binaries is None:
        skip_missing("PostgreSQL", "apt-get install postgresql, or `make servers` as root")
    with tempfile.TemporaryDirectory(prefix="mainstay-pair-", ignore_cleanup_errors=True) as directory:
        user = unprivileged_user(Path(directory))
        servers = [PairServer(name, Path(directory), binaries, user) for name in ("one", "two")]
        pair = Pair(*servers)
        with ExitStack() as stack:
            for server in servers:
                stack.callback(server.stop)
            servers[0].initialize()
            servers[0].start()
            pair.restore()
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
