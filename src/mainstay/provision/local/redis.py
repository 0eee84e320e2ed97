"""Valkey or Redis: soft state, which may be lost at any time, so nothing of it is kept."""

import socket
from pathlib import Path

from mainstay.provision.local.member import ANSWER_S_MAX, Member, Place, plain_environment
from mainstay.provision.processes import Command
from mainstay.provision.programs import find_first


class Redis(Member):
    """One server."""

    what = "Redis, soft state"

    def __init__(self, *, place: Place, directory: Path) -> None:
        super().__init__("redis", place=place, directory=directory)
        self.port = self._reserve_port()
        self._program = find_first("valkey-server", "redis-server", package="redis-server")

    @property
    def address(self) -> str:
        return f"{self.place.host}:{self.port}"

    def url(self, host: str | None = None) -> str:
        """For nodes; `host` (HOST:PORT) stands in for the server, such as a proxy before it."""
        return f"redis://{host or self.address}/0"

    def _launch(self) -> None:
        options = {"port": self.port, "bind": self.place.host, "save": "", "appendonly": "no"}
        argv = [
            self._program,
            *(part for name, value in options.items() for part in (f"--{name}", str(value))),
        ]
        self._spawn(
            Command(
                argv=[*argv, "--protected-mode", "no"],
                environment=plain_environment(),
                directory=self.directory,
                run_prefix=self.place.run_prefix,
            )
        )

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.place.host, self.port), ANSWER_S_MAX) as connection:
                connection.settimeout(ANSWER_S_MAX)
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
