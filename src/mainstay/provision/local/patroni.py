"""PostgreSQL that fails over by itself: servers under Patroni, with a synchronous standby, strictly.

Strict means that no commit is answered without a standby that has it. So three servers: with two, the loss
of one would stop all writes until it is back.
"""

import json
import secrets
import signal
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from mainstay.provision import processes
from mainstay.provision.accounts import Account, write_private
from mainstay.provision.local.database import Database, PostgresMember
from mainstay.provision.local.etcd import Etcd
from mainstay.provision.local.member import Member, Place, http_get, http_request, plain_environment
from mainstay.provision.postgresql.programs import postgresql_programs
from mainstay.provision.processes import Command
from mainstay.provision.programs import find
from mainstay.provision.waiting import StackFailed, wait_until

_REPLICATION = "replicator"
_SWITCHOVER_S_MAX = 30.0
_STANDBY_S_MAX = 60.0
_REJOIN_S_MAX = 25.0
_COPY_S_MAX = 90.0


class PatroniMember(PostgresMember):
    """One Patroni with its PostgreSQL. Up when PostgreSQL runs, in whatever role."""

    stop_s_max = 40.0

    def __init__(
        self,
        name: str,
        *,
        place: Place,
        directory: Path,
        data: Path,
        account: Account | None,
        superuser: tuple[str, str],
    ) -> None:
        super().__init__(name, place=place, directory=directory, data=data, superuser=superuser)
        self.rest_port = self._reserve_port()
        self.configuration = data.parent / f"{name}.json"
        self._account = account
        self._program = find("patroni", package="patroni")

    def _launch(self) -> None:
        self._spawn(
            Command(
                argv=[self._program, str(self.configuration)],
                environment=plain_environment(),
                directory=self.data.parent,
                account=self._account,
                run_prefix=self.place.run_prefix,
                end_with="TERM",  # it stops PostgreSQL, which has left its family
            )
        )

    def _answers(self) -> bool:
        return self.ask_agent("/health") == HTTPStatus.OK

    def heal(self) -> None:
        """Also wakes a Patroni that was frozen alone."""
        self.thaw_agent()
        super().heal()

    def ask_agent(self, path: str) -> int | None:
        """The status by which Patroni answers; None when it does not."""
        answer = http_get(self.place.host, self.rest_port, path)
        return None if answer is None else answer[0]

    def copy_anew(self) -> None:
        """Throw its data away and copy the primary's. Returns before that is done."""
        http_request(
            "POST",
            self.place.host,
            self.rest_port,
            "/reinitialize",
            body=b'{"force": true}',
            headers={"Content-Type": "application/json"},
            within_s=_SWITCHOVER_S_MAX,
        )

    def freeze_agent(self) -> None:
        """SIGSTOP to Patroni alone: its PostgreSQL goes on, and will not hear that another was promoted."""
        processes.freeze([each.identity for each in self._processes])

    def thaw_agent(self) -> None:
        processes.thaw([each.identity for each in self._processes])

    def kill_agent(self) -> None:
        """SIGKILL to Patroni alone."""
        processes.kill([each.identity for each in self._processes])


class PatroniDatabase(Database):
    """etcd and `members` servers."""

    members: Sequence[PatroniMember]

    def __init__(
        self,
        directory: Path,
        *,
        places: Mapping[str, Place],
        account: Account | None,
        members: int = 3,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, account=account)
        self._durable = durable
        self._settings = dict(settings or {})
        self._replication_password = secrets.token_hex(16)
        self.etcd = Etcd(place=places["etcd"], directory=directory, data=self._home / "etcd", account=account)
        self.members = [
            PatroniMember(
                name,
                place=places[name],
                directory=directory,
                data=self._home / name,
                account=account,
                superuser=self._superuser,
            )
            for name in (f"database{number}" for number in range(1, members + 1))
        ]
        for each in self.members:
            write_private(each.configuration, json.dumps(self._configuration(each)), account)

    @property
    def parts(self) -> Sequence[Member]:
        return [self.etcd, *self.members]

    def start(self) -> None:
        self.etcd.start()
        for each in self.members:
            each.start(wait=False)
        self._make_role_and_database()
        self._wait(self.has_sync_standby, within_s=_STANDBY_S_MAX, what="a standby")

    def stop(self) -> None:
        """All at once: one after the other would make each the primary for a moment."""
        agents = [each.identity for member in self.members for each in member._processes]  # noqa: SLF001 - ours
        for agent in agents:
            processes.send(agent, signal.SIGTERM)
        super().stop()

    def primary(self) -> PatroniMember | None:
        return self._member(lambda role: role in {"leader", "master", "primary"})

    def standby(self) -> PatroniMember | None:
        return self._member(lambda role: role == "sync_standby")

    def wait_for_sync_standby(self, *, within_s: float = _STANDBY_S_MAX) -> None:
        """Patroni has chosen one, too: from here on a failover loses nothing and needs nobody."""
        self._wait(
            lambda: self.has_sync_standby() and self.standby() is not None,
            within_s=within_s,
            what="a synchronous standby",
        )

    def has_sync_standby(self) -> bool:
        """By what the primary itself says about its standbys."""
        primary = self.primary()
        # A copy that is being made counts as a standby to PostgreSQL, but answers no commit.
        question = (
            "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') "
            "AND state = 'streaming' AND application_name LIKE 'database%'"
        )
        return primary is not None and primary.ask(question) == (True,)

    def wait_until_whole(self) -> list[str]:
        """Until every member follows the primary; the names of those that were copied anew for that.

        One killed before its first checkpoint after a promotion looks to pg_rewind as if it had never been
        promoted (until PostgreSQL 16), and never finds its way back. So an operator does what this does.
        """
        copied: list[str] = []
        self.wait_for_sync_standby()
        try:
            self._wait(lambda: not self.lost_members(), within_s=_REJOIN_S_MAX, what="all standbys")
        except StackFailed:
            for each in self.lost_members():
                each.copy_anew()
                copied.append(each.name)
            self._wait(lambda: not self.lost_members(), within_s=_COPY_S_MAX, what="all standbys")
            self.wait_for_sync_standby()
        return copied

    def lost_members(self) -> list[PatroniMember]:
        """Those that neither are the primary nor follow it; all, when there is no primary."""
        primary = self.primary()
        if primary is None:
            return list(self.members)
        question = (
            "SELECT coalesce(string_agg(application_name, ','), '') FROM pg_stat_replication"
            " WHERE state = 'streaming'"
        )
        answer = primary.ask(question)
        following = answer[0].split(",") if answer else []
        return [each for each in self.members if each is not primary and each.name not in following]

    def freeze_agent(self) -> PatroniMember:
        """SIGSTOP to the Patroni of the primary: after `ttl` there are two servers that take writes."""
        primary = self._require_primary()
        primary.freeze_agent()
        return primary

    def switchover(self) -> PatroniMember:
        """A planned change to the synchronous standby; returns the new primary when it takes writes."""
        before = self._require_primary()
        wait_until(
            lambda: self.standby() is not None, within_s=_SWITCHOVER_S_MAX, what="a standby to switch to"
        )
        after = self.standby()
        assert after is not None, "it was there a moment ago"
        wish = json.dumps({"leader": before.name, "candidate": after.name}).encode()
        answer = http_request(
            "POST",
            before.place.host,
            before.rest_port,
            "/switchover",
            body=wish,
            headers={"Content-Type": "application/json"},
            within_s=_SWITCHOVER_S_MAX,
        )
        if answer is None or answer[0] != HTTPStatus.OK:
            raise StackFailed(f"Patroni refused a switchover: {answer}", log=before.log)
        found = self.wait_for_primary(other_than=before)
        assert isinstance(found, PatroniMember), "all members are"
        return found

    def _require_primary(self) -> PatroniMember:
        found = self.wait_for_primary()
        assert isinstance(found, PatroniMember), "all members are"
        return found

    def roles(self) -> Mapping[str, str]:
        """What each member is, by the first Patroni that answers; empty when none does."""
        for each in self.members:
            answer = http_get(each.place.host, each.rest_port, "/cluster")
            if answer is not None and answer[0] == HTTPStatus.OK:
                return {known["name"]: known["role"] for known in json.loads(answer[1])["members"]}
        return {}

    def _member(self, is_wanted: Any) -> PatroniMember | None:
        roles = self.roles()
        return next((each for each in self.members if is_wanted(roles.get(each.name, ""))), None)

    def _configuration(self, member: PatroniMember) -> dict[str, Any]:
        host, listen = member.place.host, f"{member.place.host}:{member.port}"
        rest = f"{host}:{member.rest_port}"
        return {
            "scope": "mainstay",
            "name": member.name,
            "restapi": {"listen": rest, "connect_address": rest},
            # Not "etcd3": with it, Patroni 3.0 renews the leader's key without looking whose it is, so one
            # that slept longer than its time takes the lock from its successor. In version 2 it compares.
            "etcd": {"hosts": [self.etcd.address]},
            "bootstrap": {
                "dcs": self._shared_settings(),
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, {"auth": "scram-sha-256"}],
            },
            "postgresql": {
                "listen": listen,
                "connect_address": listen,
                "data_dir": str(member.data),
                "bin_dir": str(postgresql_programs()),
                "pgpass": str(member.data.parent / f"{member.name}.pgpass"),
                "authentication": {
                    "superuser": _login(self._superuser),
                    "replication": _login((_REPLICATION, self._replication_password)),
                    "rewind": _login(self._superuser),
                },
                "pg_hba": ["host all all all scram-sha-256", "host replication all all scram-sha-256"],
                "parameters": {"unix_socket_directories": ""},
                "basebackup": [{"checkpoint": "fast"}],
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
        }

    def _shared_settings(self) -> dict[str, Any]:
        parameters = {
            "max_connections": 200,
            "shared_buffers": "64MB",
            "wal_log_hints": "on",
            "wal_keep_size": "256MB",
            "fsync": "on" if self._durable else "off",
            **self._settings,
        }
        return {
            "ttl": 20,
            "loop_wait": 1,  # half of what a failover takes is waiting for the next turn
            "retry_timeout": 5,
            "primary_start_timeout": 0,  # a primary that crashed is not waited for: its standby takes over
            "failsafe_mode": True,
            "synchronous_mode": True,
            "synchronous_mode_strict": True,
            "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": parameters},
        }


def _login(pair: tuple[str, str]) -> dict[str, str]:
    return {"username": pair[0], "password": pair[1]}
