"""The object store of a local stack: Ceph's S3 gateway, moto, or a directory.

store.url                  for nodes
store.environment          what their processes need beside it: credentials are never part of a location
store.kill(), store.start()   Ceph keeps everything over it, moto forgets
"""

import secrets
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from mainstay.provision.local import s3
from mainstay.provision.local.member import Member, Place, http_status, plain_environment
from mainstay.provision.processes import Command
from mainstay.provision.waiting import wait_until

BUCKET = "mainstay"


class Store(Protocol):
    """What nodes need to know."""

    def url(self, host: str | None = None) -> str: ...

    @property
    def environment(self) -> Mapping[str, str]: ...


class S3Member(Member):
    """A server that speaks S3, with one bucket."""

    def __init__(self, *, place: Place, directory: Path) -> None:
        super().__init__("store", place=place, directory=directory)
        self.port = self._reserve_port()
        self.credentials = s3.Credentials(secrets.token_hex(10).upper(), secrets.token_hex(20))
        self._has_bucket = False

    @property
    def address(self) -> str:
        return f"{self.place.host}:{self.port}"

    def url(self, host: str | None = None) -> str:
        """The location; `host` (HOST:PORT) stands in for the server, such as a proxy before it."""
        return f"s3://{BUCKET}?region={s3.REGION}&endpoint=http://{host or self.address}"

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_key,
        }

    def wait_until_up(self, *, within_s: float | None = None) -> None:
        """Also makes the bucket the first time."""
        super().wait_until_up(within_s=within_s)
        if not self._has_bucket:
            wait_until(
                lambda: s3.make_bucket(self.place.host, self.port, BUCKET, self.credentials),
                within_s=within_s or self.start_s_max,
                what="the bucket",
                log=self.log,
            )
            self._has_bucket = True

    def _answers(self) -> bool:
        return http_status(self.place.host, self.port, "/") in (HTTPStatus.OK, HTTPStatus.FORBIDDEN)


class Moto(S3Member):
    """moto: starts in a second, keeps all in memory, checks no signatures. A new start needs a new bucket."""

    what = "moto, S3 in memory"

    def _launch(self) -> None:
        self._has_bucket = False
        # Its command does not work with every version of its own parts; its function does.
        program = "import sys; from moto.server import main; main(sys.argv[1:])"
        self._spawn(
            Command(
                argv=[sys.executable, "-c", program, "-H", self.place.host, "-p", str(self.port)],
                environment=plain_environment(),
                directory=self.directory,
                run_prefix=self.place.run_prefix,
            )
        )


class SharedDirectory:
    """A directory that all nodes see: nothing to start, nothing to kill."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "objects"
        self.path.mkdir(parents=True, exist_ok=True)

    def url(self, host: str | None = None) -> str:  # noqa: ARG002 - nobody stands before a directory
        return str(self.path)

    @property
    def environment(self) -> Mapping[str, str]:
        return {}
