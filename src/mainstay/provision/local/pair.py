"""Two PostgreSQL servers, one the synchronous standby of the other, and nobody who decides: the caller does.

pair.kill_primary_member(); pair.promote()      0.2 s, for tests that need many failovers
pair.rejoin(member)                             the other one, as standby, from a fresh copy
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mainstay.provision.accounts import Account
from mainstay.provision.local.database import Database
from mainstay.provision.local.member import Place
from mainstay.provision.local.single import ServerMember
from mainstay.provision.waiting import wait_until


class PairDatabase(Database):
    """A primary and its synchronous standby."""

    members: Sequence[ServerMember]

    def __init__(
        self,
        directory: Path,
        *,
        places: Mapping[str, Place],
        account: Account | None,
        durable: bool = True,
        synchronous: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, account=account)
        parameters = {
            "fsync": "on" if durable else "off",
            "wal_log_hints": "on",
            "wal_keep_size": "256MB",
            "synchronous_standby_names": "*" if synchronous else "",
            **(settings or {}),
        }
        self._synchronous = synchronous
        self.members = [
            ServerMember(
                name,
                place=places[name],
                directory=directory,
                data=self._home / name,
                account=account,
                superuser=self._superuser,
                parameters=parameters,
            )
            for name in ("database1", "database2")
        ]
        self._leader = self.members[0]

    @property
    def follower(self) -> ServerMember:
        """The one that is not the primary, running or not."""
        first, second = self.members
        return second if self._leader is first else first

    def start(self) -> None:
        if not self._leader.data.exists():
            self._leader.initialize()
        self._leader.start()
        self._make_role_and_database()
        if not self.follower.data.exists():
            self._copy_to(self.follower)
        self.follower.start()
        self.wait_for_sync_standby()

    def primary(self) -> ServerMember | None:
        return self._leader if self._leader.is_running() else None

    def standby(self) -> ServerMember | None:
        return self.follower if self.follower.is_running() and not self.follower.takes_writes() else None

    def promote(self) -> ServerMember:
        """Make the standby the primary, whatever the other one does. It waits for no standby of its own
        before `rejoin` brings one back.
        """
        fresh = self.follower
        fresh.run_tool("pg_ctl", "promote", f"--pgdata={fresh.data}", "--wait")
        self._leader = fresh
        with fresh.connect() as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            connection.execute("SELECT pg_reload_conf()")
        return fresh

    def rejoin(self) -> None:
        """Bring the other one back as the synchronous standby, from a fresh copy."""
        other = self.follower
        other.kill()
        shutil.rmtree(other.data, ignore_errors=True)
        self._copy_to(other)
        other.start()
        with self._leader.connect() as connection:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")
        self.wait_for_sync_standby()

    def wait_for_sync_standby(self, *, within_s: float = 60) -> None:
        wanted = "sync" if self._synchronous else "async"
        question = f"SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = '{wanted}'"  # noqa: S608 - a constant
        wait_until(
            lambda: self._leader.ask(question) == (True,),
            within_s=within_s,
            what="a synchronous standby",
            log=self.follower.log,
        )

    def _copy_to(self, member: ServerMember) -> None:
        source = self._leader.url("postgres")
        member.run_tool(
            "pg_basebackup",
            f"--dbname={source}",
            f"--pgdata={member.data}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        )
