"""The life of one server: make it, start it, stop it, ask it. What follows what: `primary`, `standby`."""

import fcntl
import os
import pwd
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.provision import processes
from mainstay.provision.accounts import Account
from mainstay.provision.postgresql import configuration, postmaster
from mainstay.provision.postgresql.configuration import REPLICATION, SUPERUSER
from mainstay.provision.postgresql.places import Places
from mainstay.provision.postgresql.postmaster import How
from mainstay.provision.postgresql.programs import postgresql_programs
from mainstay.provision.postgresql.tools import Tell, Tools
from mainstay.provision.postgresql.wishes import Credentials, Wishes, read_wishes, write_whole, write_wishes
from mainstay.provision.socket_url import OWNER, SOCKET_PORT, socket_url
from mainstay.provision.waiting import tail

if TYPE_CHECKING:
    import psycopg

    from mainstay.provision.processes import Process

log = get_logger()

_POLL_S = 0.05
_CONNECT_S_MAX = 5
_STATEMENT_MS_MAX = 60_000
_START_S_MAX = 120.0
_STOP_S_MAX = 60.0
_HOLD_S_MAX = 180.0
_INITDB_SILENT_S_MAX = 120.0
_SOCKET_BYTES_MAX = 100
"""The kernel allows 107, and the server puts a name of some bytes more beside it."""
_REWIND_FUNCTIONS = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)


class ServerDown(Unavailable):
    """The server does not answer."""


class CannotStart(Unavailable):
    """It ended while it was starting, or took too long; the message has its last words."""


class BeingChanged(Conflict):
    """Another process has the server down for a change of its role, or starts it, and takes too long."""


class RunElsewhere(Conflict):
    """Another process runs the server."""


class PathTooLong(Conflict):
    """A socket in this directory would have a longer name than the kernel allows."""


class Server:
    """One server. Several objects, in several processes, may speak of the same one; one of them runs it."""

    def __init__(
        self,
        directory: Path,
        sockets: Path,
        *,
        account: Account | None = None,
        clock: Clock = SYSTEM,
        tell: Tell = lambda _line: None,
        memory_bytes: int | None = None,
    ) -> None:
        """Nothing is touched yet. `account`: who runs it (`server_account()`); None: whoever we are."""
        self.places = Places(directory)
        self.account = account
        self.tell = tell
        self._sockets = sockets
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._process: Process | None = None
        self._running_lock: int | None = None
        self._holding = threading.RLock()
        self._holds = 0

    # What it is
    @property
    def exists(self) -> bool:
        """Whether there is a database, running or not."""
        return self.places.data.exists() or self.places.fresh.exists() or self.places.replaced.exists()

    @property
    def wishes(self) -> Wishes:
        return read_wishes(self.places.wishes)

    def url(self, database: str = OWNER) -> str:
        """For processes of this machine; the same whatever becomes of the server."""
        return socket_url(self._sockets, database)

    def tools(self) -> Tools:
        """The programs of the version that the data is of; the newest when there is none. Raises
        `PostgresqlMissing`.
        """
        major = self.places.major_version() if self.places.data.exists() else None
        return Tools(postgresql_programs(major), self.account)

    def control(self) -> Mapping[str, str]:
        """What `pg_controldata` says of the data, running or not."""
        self.places.major_version()  # or there is no data
        return self.tools().ask("pg_controldata", str(self.places.data), log=self.places.tool_log)

    def system_identifier(self) -> str:
        """The same for a primary and all copies ever made of it."""
        return self.control()["Database system identifier"]

    # Making
    def create(self) -> None:
        """A new, empty one, with checksums on every page; nothing when there is one. Not started."""
        self.prepare()
        if self.places.data.exists():
            return
        self.places.clear_making()
        self._refuse_root()
        self.tools().run(
            "initdb",
            f"--pgdata={self.places.making}",
            f"--username={SUPERUSER}",
            "--auth-local=peer",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
            log=self.places.tool_log,
            silent_s_max=_INITDB_SILENT_S_MAX,
        )
        self.places.making.rename(self.places.fresh)
        self.places.put_in_place()
        log.info("postgresql.created", directory=str(self.places.directory))

    def prepare(self) -> None:
        """Make its directories, and finish what a killed process left in the middle. Raises `CannotEnter`."""
        if len(os.fsencode(self._sockets)) + len("/.s.PGSQL.65535.lock") > _SOCKET_BYTES_MAX:
            raise PathTooLong(f"{self._sockets}: too long for a socket; choose a data directory nearer to /")
        self.places.prepare(self.account)
        self._make_socket_directory()
        with self.held():
            if postmaster.postmaster_of(self.places.data) is None:
                self.places.settle()

    # Running
    def start(self, *, within_s: float = _START_S_MAX) -> None:
        """Start it as our child and wait until it answers. It ends with this process, whatever ends that."""
        self.launch(within_s=within_s)

    def launch(self, *, within_s: float = _START_S_MAX) -> None:
        """See `start`. Idempotent for who runs it. Raises `RunElsewhere`, `CannotStart`, `BeingChanged`."""
        self.prepare()
        self._take_running_lock()
        with self.held():
            if self._process is not None and self._process.is_running():
                return
            self._end_orphan()
            self.configure()
            until_s = self._clock.monotonic_s() + within_s
            while not self._spawned(until_s):
                time.sleep(_POLL_S)
        self._ensure_roles()

    def stop(self, how: How = "fast", *, within_s: float = _STOP_S_MAX) -> bool:
        """Stop it, whoever runs it (who runs it may start it again). Whether it stopped the wished way."""
        was_enough = postmaster.stop(self.places.data, how=how, within_s=within_s)
        if self._process is not None:
            self._process.popen.wait(within_s)
            self._process = None
        return was_enough

    def retire(self, how: How = "fast", *, within_s: float = _STOP_S_MAX) -> bool:
        """Stop it and run it no more."""
        was_enough = self.stop(how, within_s=within_s)
        if self._running_lock is not None:
            os.close(self._running_lock)
            self._running_lock = None
        return was_enough

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.retire()

    def is_running(self) -> bool:
        return postmaster.postmaster_of(self.places.data) is not None

    def pid(self) -> int | None:
        found = postmaster.postmaster_of(self.places.data)
        return found.pid if found else None

    def exit_code(self) -> int | None:
        """Of the server that this object runs; None while it runs, or when it runs none."""
        return self._process.exit_code() if self._process else None

    @contextmanager
    def held(self, *, within_s: float = _HOLD_S_MAX) -> Iterator[None]:
        """Nobody else starts the server in the block, or has it stopped. Raises `BeingChanged`."""
        if not self._holding.acquire(timeout=within_s):
            raise BeingChanged(f"the database in {self.places.directory} is being changed by this process")
        self._holds += 1
        try:
            with self._file_held(within_s) if self._holds == 1 else nullcontext():
                yield
        finally:
            self._holds -= 1
            self._holding.release()

    @contextmanager
    def _file_held(self, within_s: float) -> Iterator[None]:
        descriptor = self._lock_file(self.places.hold_lock)
        try:
            if not self._locked(descriptor, within_s):
                raise BeingChanged(f"another process is changing the database in {self.places.directory}")
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The server is down in the block; afterwards whoever ran it runs it again, and it answers."""
        self.prepare()
        with self.held():
            runs_it = self._running_lock is not None
            is_run = runs_it or not self._is_free_to_run()
            self.stop("fast")
            yield
        if runs_it:
            self.launch()
        elif is_run:
            self.wait_until_up()

    def wait_until_up(self, *, within_s: float = _START_S_MAX) -> None:
        """Raises `ServerDown`."""
        until_s = self._clock.monotonic_s() + within_s
        while (why := self._why_down()) is not None:
            if self._clock.monotonic_s() > until_s:
                raise ServerDown(f"the database in {self.places.directory} is not up: {why}")
            time.sleep(_POLL_S)

    # Wishes
    def wish(self, **changes: Any) -> Wishes:
        """Keep what it should be from the next `reload` or start on."""
        wishes = replace(self.wishes, **changes)
        write_wishes(self.places.wishes, wishes, self.account)
        return wishes

    def configure(self) -> None:
        """Write the configuration anew; a running server takes it up with `reload` or its next start."""
        wishes, places = self.wishes, self.places
        text = configuration.configuration(
            places,
            wishes,
            sockets=self._sockets,
            memory=self._memory_bytes or configuration.memory_bytes(),
            least=configuration.sizes_of_primary(self.control()) if places.data.exists() else None,
        )
        write_whole(places.configuration, text.encode(), self.account)
        write_whole(places.rules, configuration.rules(wishes).encode(), self.account)
        named = configuration.identities(wishes, users=self._users())
        write_whole(places.identities, named.encode(), self.account)

    def reload(self) -> None:
        """Write the configuration and make the running server read it. Raises `ServerDown`."""
        self.configure()
        found = self.ask("SELECT pg_reload_conf(), pg_conf_load_time()")
        until_s = self._clock.monotonic_s() + _CONNECT_S_MAX
        while self.ask("SELECT pg_conf_load_time()")[0] == found[1]:
            if self._clock.monotonic_s() > until_s:
                raise ServerDown("the server does not read its configuration again")
            time.sleep(_POLL_S)

    def keep(self, credentials: Credentials) -> None:
        """Copies that the account can read, for the TLS port and for following a primary."""
        self.prepare()
        places = self.places
        for source, file in (
            (credentials.certificate, places.certificate),
            (credentials.key, places.key),
            (credentials.authority, places.authority),
        ):
            if source != file:
                write_whole(file, source.read_bytes(), self.account)

    # Asking
    @contextmanager
    def connected(self, database: str = "postgres") -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
        """As superuser, each statement its own transaction. Raises `ServerDown`."""
        import psycopg  # noqa: PLC0415 - a driver that only its users pay for

        try:
            connection = psycopg.connect(
                host=str(self._sockets),
                port=SOCKET_PORT,
                user=SUPERUSER,
                dbname=database,
                connect_timeout=_CONNECT_S_MAX,
                autocommit=True,
                application_name="mainstay-control",
                options=f"-c statement_timeout={_STATEMENT_MS_MAX} -c synchronous_commit=local",
            )
        except psycopg.Error as error:
            raise ServerDown(f"the database does not answer: {' '.join(str(error).split())}") from error
        with connection:
            yield connection

    def ask(
        self, question: str, parameters: Sequence[Any] = (), *, database: str = "postgres"
    ) -> tuple[Any, ...]:
        """The first row. Raises `ServerDown`."""
        rows = self.rows(question, parameters, database=database)
        assert rows, "the question has an answer"
        return rows[0]

    def rows(
        self, question: str, parameters: Sequence[Any] = (), *, database: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        import psycopg  # noqa: PLC0415 - same

        with self.connected(database) as connection:
            try:
                return connection.execute(question.encode(), parameters or None).fetchall()
            except psycopg.OperationalError as error:
                raise ServerDown(f"the database went away: {' '.join(str(error).split())}") from error

    def order(self, statement: str) -> None:
        """One that answers nothing, and may take as long as it needs. Raises `ServerDown`."""
        import psycopg  # noqa: PLC0415 - same

        with self.connected() as connection:
            try:
                connection.execute("SET statement_timeout = 0")
                connection.execute(statement.encode())
            except psycopg.OperationalError as error:
                raise ServerDown(f"the database went away: {' '.join(str(error).split())}") from error

    def is_in_recovery(self) -> bool:
        """Whether it is a standby now. Raises `ServerDown`."""
        return bool(self.ask("SELECT pg_is_in_recovery()")[0])

    # Inside
    def _spawned(self, until_s: float) -> bool:
        """Start the process and wait for an answer; False: a dying one was still in the way, try again."""
        self.places.start_log.unlink(missing_ok=True)
        arguments = ("-D", str(self.places.data), "-c", f"config_file={self.places.configuration}")
        command = self.tools().command(
            "postgres", *arguments, directory=self.places.directory, end_with="INT"
        )
        self._process = processes.start(command, log=self.places.start_log)
        while True:
            if (code := self._process.exit_code()) is not None:
                self._process = None
                said = tail(self.places.start_log)
                if "still in use" in said and self._clock.monotonic_s() < until_s:
                    return False
                raise CannotStart(f"PostgreSQL ended with {code} at its start{self._last_words()}")
            self._link_socket()
            why = self._why_down()
            if why is None:
                return True
            if self._clock.monotonic_s() > until_s:
                self.stop("immediate")
                raise CannotStart(f"PostgreSQL does not answer in time: {why}{self._last_words()}")
            time.sleep(_POLL_S)

    def _last_words(self) -> str:
        logs = sorted(self.places.logs.glob("*.log"), key=lambda file: file.stat().st_mtime)
        return "\n" + "\n".join(tail(file) for file in (self.places.start_log, *logs[-1:]))

    def _why_down(self) -> str | None:
        """None when it answers."""
        try:
            self.ask("SELECT 1")
        except ServerDown as error:
            return str(error)
        return None

    def _end_orphan(self) -> None:
        """A server whose runner was killed is about to end by itself."""
        if postmaster.postmaster_of(self.places.data) is not None:
            self.stop("fast")
        if postmaster.postmaster_of(self.places.data) is not None:
            raise RunElsewhere(f"a server that does not end runs on {self.places.data}")
        self.places.settle()
        self.places.require_data()

    def _take_running_lock(self) -> None:
        if self._running_lock is not None:
            return
        descriptor = self._lock_file(self.places.runner_lock)
        if not self._locked(descriptor, 0.0):
            os.close(descriptor)
            raise RunElsewhere(f"another process runs the database in {self.places.directory}")
        self._running_lock = descriptor

    def _is_free_to_run(self) -> bool:
        """Whether nobody runs it."""
        descriptor = self._lock_file(self.places.runner_lock)
        try:
            return self._locked(descriptor, 0.0)
        finally:
            os.close(descriptor)

    def _lock_file(self, file: Path) -> int:
        """Open. What root makes belongs to the account, which may run the server itself next time."""
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self.account is not None:
            os.fchown(descriptor, self.account.uid, self.account.gid)
        return descriptor

    def _locked(self, descriptor: int, within_s: float) -> bool:
        until_s = self._clock.monotonic_s() + within_s
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            if self._clock.monotonic_s() >= until_s:
                return False
            time.sleep(_POLL_S)

    def _make_socket_directory(self) -> None:
        self._sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.account is not None:
            os.chown(self._sockets, self.account.uid, self.account.gid)

    def _link_socket(self) -> None:
        """The socket is called after the TLS port; under one name it is found wherever that is."""
        listen = self.wishes.listen
        usual = self._sockets / f".s.PGSQL.{SOCKET_PORT}"
        if listen is None or listen.port == SOCKET_PORT:
            if usual.is_symlink():
                usual.unlink(missing_ok=True)
            return
        real = f".s.PGSQL.{listen.port}"
        if usual.is_symlink() and usual.readlink() == Path(real):
            return
        fresh = self._sockets / "socket.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(real)
        fresh.replace(usual)

    def _users(self) -> list[str]:
        """Who of this machine may be the superuser: we, and those who could read its files anyway."""
        ours = pwd.getpwuid(os.geteuid()).pw_name
        return list(dict.fromkeys([ours, "root", *([self.account.name] if self.account else [])]))

    def _refuse_root(self) -> None:
        if self.account is None and os.geteuid() == 0:
            raise Conflict("PostgreSQL does not run as root: name an account")

    def _ensure_roles(self) -> None:
        """The database of ours, its owner and the role that replicates; a standby has them by its primary."""
        from psycopg import sql  # noqa: PLC0415 - same

        if self.is_in_recovery():
            return
        with self.connected() as connection:
            known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
            if OWNER not in known:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(OWNER)))
                connection.execute(sql.SQL("GRANT pg_monitor TO {}").format(sql.Identifier(OWNER)))
            if REPLICATION not in known:
                self._make_replication_role(connection)
            has_database = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (OWNER,))
            if has_database.fetchone() is None:
                owner = sql.Identifier(OWNER)
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(owner, owner))

    def _make_replication_role(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        from psycopg import sql  # noqa: PLC0415 - same

        role = sql.Identifier(REPLICATION)
        with connection.transaction():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN REPLICATION").format(role))
            for function in _REWIND_FUNCTIONS:
                connection.execute(
                    sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(function), role)
                )
