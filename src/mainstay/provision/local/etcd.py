"""etcd, where Patroni keeps who is the primary."""

from http import HTTPStatus
from pathlib import Path

from mainstay.provision.accounts import Account
from mainstay.provision.local.member import Member, Place, http_status, plain_environment
from mainstay.provision.processes import Command
from mainstay.provision.programs import find

_CLUSTER_NAME = "mainstay"


class Etcd(Member):
    """One member: its loss stops failovers, not the database, because Patroni runs in failsafe mode."""

    what = "etcd, elects the primary"

    def __init__(self, *, place: Place, directory: Path, data: Path, account: Account | None) -> None:
        super().__init__("etcd", place=place, directory=directory)
        self.port = self._reserve_port()
        self._peer_port = self._reserve_port()
        self._data = data
        self._account = account
        self._program = find("etcd", package="etcd-server")

    @property
    def address(self) -> str:
        return f"{self.place.host}:{self.port}"

    def _launch(self) -> None:
        client, peer = f"http://{self.address}", f"http://{self.place.host}:{self._peer_port}"
        options = {
            "name": _CLUSTER_NAME,
            "data-dir": str(self._data),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"{_CLUSTER_NAME}={peer}",
            "enable-v2": "true",  # why: see `patroni`
        }
        argv = [self._program, *(f"--{name}={value}" for name, value in options.items())]
        self._spawn(
            Command(
                argv=argv,
                environment=plain_environment(),
                directory=self._data.parent,
                account=self._account,
                run_prefix=self.place.run_prefix,
            )
        )

    def _answers(self) -> bool:
        return http_status(self.place.host, self.port, "/health") == HTTPStatus.OK
