"""The database of a local stack, whichever way it is run.

database.url()                     for nodes: every server in it, writes go to the primary
database.primary(), .standby()     members, asked now; None when there is none
database.kill_primary()            SIGKILL to the postmaster and its children; who was killed
database.kill_primary_member()     the same to the whole machine: Patroni and PostgreSQL; stays away
database.wait_for_primary()        another (`other_than=`) or any server takes writes; who
database.wait_for_sync_standby()   a commit would wait for, and get, an answer of a standby
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from mainstay.provision import processes
from mainstay.provision.accounts import Account, directory_for
from mainstay.provision.local.member import Member, Place
from mainstay.provision.postgresql.postmaster import postmaster_of
from mainstay.provision.processes import Identity
from mainstay.provision.waiting import wait_until

NAME = "mainstay"
_SUPERUSER = "postgres"
_CONNECT_S = 2


class PostgresMember(Member):
    """One PostgreSQL server. Its postmaster may be the child of somebody who left, so it is found by the
    file it keeps in its data directory.
    """

    what = "PostgreSQL"

    def __init__(
        self, name: str, *, place: Place, directory: Path, data: Path, superuser: tuple[str, str]
    ) -> None:
        super().__init__(name, place=place, directory=directory)
        self.port = self._reserve_port()
        self.data = data
        self._superuser = superuser

    @property
    def address(self) -> str:
        return f"{self.place.host}:{self.port}"

    def url(self, database: str = NAME) -> str:
        """As superuser, straight to this server, primary or not."""
        user, password = self._superuser
        return f"postgresql://{user}:{quote(password)}@{self.address}/{database}"

    def postmaster(self) -> Identity | None:
        """The server process; None when none runs on this data directory."""
        return postmaster_of(self.data)

    def identities(self) -> Sequence[Identity]:
        postmaster = self.postmaster()
        return [*super().identities(), *([postmaster] if postmaster else [])]

    def kill_server(self) -> None:
        """SIGKILL to the postmaster and all its children; who watches over it goes on."""
        if postmaster := self.postmaster():
            processes.kill([postmaster])

    def ask(self, question: str) -> tuple[Any, ...] | None:
        """The first row of a query, as superuser; None when the server does not answer."""
        try:
            with closing(self.connect()) as connection:
                return connection.execute(question.encode()).fetchone()
        except psycopg.Error:
            return None

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection as superuser, each statement its own transaction."""
        return psycopg.connect(
            self.url(database), connect_timeout=_CONNECT_S, autocommit=True, application_name="stack"
        )

    def takes_writes(self) -> bool:
        return self.ask("SELECT NOT pg_is_in_recovery()") == (True,)


class Database(ABC):
    """One or several servers that are one database."""

    members: Sequence[PostgresMember]
    directories: Sequence[Path]
    """Where its data is. Whoever made it removes what lies outside his own."""

    def __init__(self, directory: Path, *, account: Account | None) -> None:
        """`account` is who the servers run as, and whose their data is."""
        self._home = directory_for(account, directory / "database")
        self.directories = [self._home]
        self._password = secrets.token_hex(16)
        self._superuser = (_SUPERUSER, secrets.token_hex(16))
        self._roles_made = False

    @property
    def parts(self) -> Sequence[Member]:
        """All members, also those that are no PostgreSQL."""
        return self.members

    def url(self, hosts: Sequence[str] | None = None) -> str:
        """For nodes. `hosts` (HOST:PORT) stand in for the servers, such as proxies before them."""
        servers = ",".join(hosts or [each.address for each in self.members])
        attributes = "?target_session_attrs=read-write" if len(self.members) > 1 else ""
        return f"postgresql://{NAME}:{quote(self._password)}@{servers}/{NAME}{attributes}"

    @abstractmethod
    def start(self) -> None:
        """Start what does not run; returns when commits are answered (by a standby, too)."""

    def stop(self) -> None:
        for each in reversed(self.parts):
            each.stop()

    def kill(self) -> None:
        """All of it at once."""
        processes.kill([identity for each in self.parts for identity in each.identities()])
        for each in self.parts:
            each.kill()

    @abstractmethod
    def primary(self) -> PostgresMember | None:
        """The server that takes writes by the judgement of who decides it; None between two."""

    def standby(self) -> PostgresMember | None:
        """The synchronous standby; None when there is none now."""
        return None

    def kill_primary(self) -> PostgresMember:
        """SIGKILL to the server process of the primary. Whoever watches over it goes on."""
        primary = self.wait_for_primary()
        primary.kill_server()
        return primary

    def kill_primary_member(self) -> PostgresMember:
        """The primary and whatever watches over it. Comes back with its `start()`."""
        primary = self.wait_for_primary()
        primary.kill()
        return primary

    def wait_for_primary(
        self, *, other_than: PostgresMember | None = None, within_s: float = 60
    ) -> PostgresMember:
        """The server that takes writes; `other_than` one that was killed."""
        found: list[PostgresMember] = []

        def is_there() -> bool:
            primary = self.primary()
            if primary is not None and primary is not other_than and primary.takes_writes():
                found.append(primary)
            return bool(found)

        self._wait(is_there, within_s=within_s, what="a primary that takes writes")
        return found[0]

    @abstractmethod
    def wait_for_sync_standby(self, *, within_s: float = 60) -> None:
        """Returns at once where there is no standby by design."""

    def _wait(self, condition: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Also ends with the stack."""
        first = self.members[0]
        wait_until(condition, within_s=within_s, what=what, log=first.log, still_possible=first.may_start)

    def _make_role_and_database(self) -> None:
        """What nodes use: a role without rights beyond its own database."""
        if self._roles_made:
            return
        with closing(self.wait_for_primary().connect()) as connection:
            # No standby may be there yet; it gets these with its first copy.
            connection.execute("SET synchronous_commit TO local")
            role, password = sql.Identifier(NAME), sql.Literal(self._password)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
        self._roles_made = True
