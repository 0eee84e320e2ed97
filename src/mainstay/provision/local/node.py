"""A node of Mainstay: `mainstay serve` on ports and a data directory of its own.

The first makes the instance from settings; the others get in as machines do, by `mainstay join` with a token,
and know nothing else.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from mainstay.foundation.settings import environment_of_others
from mainstay.provision.local.member import Member, Place, http_status
from mainstay.provision.processes import Command

_STOP_S_MAX = 90.0
_RUN_S_MAX = 120.0
_JOIN_FLAGS = {
    "http",
    "ssh",
    "rpc",
    "health",
    "roles",
    "node_name",
    "node_address",
    "node_labels",
    "database_url",
    "object_store",
}


@dataclass(frozen=True, slots=True)
class Invitation:
    """Where to join, and the token for it."""

    url: str
    token: str = field(repr=False)


class Needs(Protocol):
    """What the rest of the stack is, for one node."""

    def of_all(self) -> Mapping[str, str]:
        """For the node that makes the instance."""
        ...

    def of_joined(self) -> Mapping[str, str]:
        """For the others: only what they are to know differently."""
        ...

    def addresses(self) -> Mapping[str, str]:
        """Database and objects, where this node has ways of its own to them."""
        ...

    def credentials(self) -> Mapping[str, str]:
        """Variables for the object store."""
        ...


class Node(Member):
    """One node.

    `settings` (names as in the settings file) and `environment` are of the next start, so that a test may
    change them between two; so is `program`, which may be that of another version.
    """

    what = "Mainstay"

    start_s_max = 90.0
    stop_s_max = _STOP_S_MAX

    def __init__(
        self,
        name: str,
        *,
        place: Place,
        directory: Path,
        needs: Needs,
        invite: Callable[[], Invitation] | None,
    ) -> None:
        super().__init__(name, place=place, directory=directory)
        self.data = directory / name
        self.http_port = self._reserve_port()
        self.ssh_port = self._reserve_port()
        self.rpc_port = self._reserve_port()
        self.health_port = self._reserve_port()
        self.settings: dict[str, str] = {}
        """On top of those that all nodes share."""
        self.environment: dict[str, str] = {}
        self.program = [sys.executable, "-m", "mainstay"]
        self._needs = needs
        self._invite = invite

    @property
    def address(self) -> str:
        return self.http_address

    @property
    def http_address(self) -> str:
        return f"{self.place.host}:{self.http_port}"

    @property
    def ssh_address(self) -> str:
        return f"{self.place.host}:{self.ssh_port}"

    @property
    def rpc_address(self) -> str:
        return f"{self.place.host}:{self.rpc_port}"

    @property
    def health_address(self) -> str:
        return f"{self.place.host}:{self.health_port}"

    @property
    def url(self) -> str:
        return f"http://{self.http_address}"

    def root_password(self) -> str:
        """Only on the node that started first."""
        return (self.data / "initial_root_password").read_text().strip()

    def run(self, *arguments: str, within_s: float = _RUN_S_MAX) -> str:
        """`mainstay ARGUMENTS` beside the node, on its data directory; what it printed."""
        return self._run(self._command(*arguments), within_s=within_s)

    def own_settings(self) -> dict[str, str]:
        """What is different on each node."""
        return {
            "http": self.http_address,
            "ssh": self.ssh_address,
            "rpc": self.rpc_address,
            "health": self.health_address,
            "node_name": self.name,
            "node_address": self.place.host,
            "data_processes": "1",
            "web_threads": "2",
        }

    def all_settings(self) -> dict[str, str]:
        """What the node is told at each start. One that joined knows the rest from the cluster."""
        told = self._needs.of_all() if self._invite is None else self._needs.of_joined()
        return {**told, "data": str(self.data), **self.own_settings(), **self.settings}

    def invitation(self) -> Invitation:
        """A token of this node for one that joins."""
        return Invitation(self.url, self.run("node", "token").strip())

    def is_ready(self) -> bool:
        return http_status(self.place.host, self.http_port, "/-/readiness") == HTTPStatus.OK

    def _launch(self) -> None:
        if self._invite is not None and not self.data.exists():
            self._join(self._invite())
        self._spawn(self._command("serve"))

    def _join(self, invitation: Invitation) -> None:
        """As a person would: with a token that works once."""
        own = {**self.own_settings(), **self._needs.addresses(), **self.settings}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in own.items() if name in _JOIN_FLAGS]
        command = self._command("join", invitation.url, *flags)
        environment = {**command.environment, "MAINSTAY_JOIN_TOKEN": invitation.token}
        self._run(replace(command, environment=environment), within_s=_RUN_S_MAX)

    def _answers(self) -> bool:
        return self.is_ready()

    def _command(self, *arguments: str) -> Command:
        settings = {f"MAINSTAY_{name.upper()}": value for name, value in self.all_settings().items()}
        credentials = {} if self._invite is not None else self._needs.credentials()
        return Command(
            argv=[*self.program, *arguments],
            environment={**environment_of_others(), **credentials, **settings, **self.environment},
            directory=self.directory,
            run_prefix=self.place.run_prefix,
        )
