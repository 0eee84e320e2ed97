"""A node of Mainstay: `mainstay serve` on ports and a data directory of its own."""

import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

from mainstay.foundation.settings import environment_of_others
from mainstay.provision.local.member import Member, Place, http_status
from mainstay.provision.local.processes import Command

_STOP_S_MAX = 90.0
_RUN_S_MAX = 120.0


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
        settings: Callable[[], Mapping[str, str]],
        environment: Callable[[], Mapping[str, str]],
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
        self._shared_settings = settings
        self._shared_environment = environment

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

    def all_settings(self) -> dict[str, str]:
        """What the node is started with."""
        own = {
            "data": str(self.data),
            "http": self.http_address,
            "ssh": self.ssh_address,
            "rpc": self.rpc_address,
            "health": self.health_address,
            "node_name": self.name,
            "node_address": self.place.host,
        }
        return {**own, **self._shared_settings(), **self.settings}

    def is_ready(self) -> bool:
        return http_status(self.place.host, self.http_port, "/-/readiness") == HTTPStatus.OK

    def _launch(self) -> None:
        self._spawn(self._command("serve"))

    def _answers(self) -> bool:
        return self.is_ready()

    def _command(self, *arguments: str) -> Command:
        settings = {f"MAINSTAY_{name.upper()}": value for name, value in self.all_settings().items()}
        return Command(
            argv=[*self.program, *arguments],
            environment={
                **environment_of_others(),
                **self._shared_environment(),
                **settings,
                **self.environment,
            },
            directory=self.directory,
            run_prefix=self.place.run_prefix,
        )
