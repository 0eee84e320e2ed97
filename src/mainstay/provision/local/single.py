"""One PostgreSQL server without anybody to watch over it: quick to start, for tests of other things."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from mainstay.provision.accounts import Account, write_private
from mainstay.provision.local.database import Database, PostgresMember
from mainstay.provision.local.member import Place, plain_environment
from mainstay.provision.postgresql.programs import postgresql_programs
from mainstay.provision.processes import Command

_COMMAND_S_MAX = 60.0


class ServerMember(PostgresMember):
    """A server that we start ourselves."""

    stop_signal = signal.SIGINT  # the fast way: connections are ended, everything is written

    def __init__(
        self,
        name: str,
        *,
        place: Place,
        directory: Path,
        data: Path,
        account: Account | None,
        superuser: tuple[str, str],
        parameters: Mapping[str, str],
    ) -> None:
        super().__init__(name, place=place, directory=directory, data=data, superuser=superuser)
        self.parameters = dict(parameters)
        """Of the next start; a test may change them."""
        self._account = account
        self._programs = postgresql_programs()

    def run_tool(self, tool: str, *arguments: str, **environment: str) -> None:
        """`initdb`, `pg_basebackup`, …, as the one who owns the data."""
        command = self._command([str(self._programs / tool), *arguments], environment)
        self._run(command, within_s=_COMMAND_S_MAX)

    def initialize(self) -> None:
        """A new, empty data directory."""
        secret = self.data.parent / f"{self.name}.password"
        write_private(secret, self._superuser[1], self._account)
        self.run_tool(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={self._superuser[0]}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )
        secret.unlink()
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\nhost replication all all scram-sha-256\n")

    def _launch(self) -> None:
        parameters = {
            "listen_addresses": self.place.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            **self.parameters,
        }
        settings = [part for name, value in parameters.items() for part in ("-c", f"{name}={value}")]
        self._spawn(self._command([str(self._programs / "postgres"), "-D", str(self.data), *settings], {}))

    def _answers(self) -> bool:
        return self.ask("SELECT 1") is not None

    def _command(self, argv: Sequence[str], environment: Mapping[str, str]) -> Command:
        return Command(
            argv=argv,
            environment=plain_environment(**environment),
            directory=self.data.parent,
            account=self._account,
            run_prefix=self.place.run_prefix,
            end_with="INT",
        )


class SingleDatabase(Database):
    """One server."""

    def __init__(
        self,
        directory: Path,
        *,
        places: Mapping[str, Place],
        account: Account | None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, account=account)
        self.server = ServerMember(
            "database1",
            place=places["database1"],
            directory=directory,
            data=self._home / "database1",
            account=account,
            superuser=self._superuser,
            parameters={"fsync": "on" if durable else "off", **(settings or {})},
        )
        self.members = [self.server]

    def start(self) -> None:
        if not self.server.data.exists():
            self.server.initialize()
        self.server.start()
        self._make_role_and_database()

    def primary(self) -> ServerMember | None:
        return self.server if self.server.is_running() else None

    def wait_for_sync_standby(self, *, within_s: float = 60) -> None:  # noqa: ARG002 - there is none
        return
