"""S3 servers for tests: moto, Ceph RGW where it is installed, and any other that the environment names.

`MAINSTAY_TEST_S3_ENDPOINT=http://127.0.0.1:5907` adds a server that runs already, with the credentials of
the usual `AWS_*` variables. A further server that tests start themselves is one more entry of `SERVERS`.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import boto3
import pytest
from botocore.config import Config

from mainstay.storage.objects import ObjectStore
from mainstay.storage.objects.opening import open_object_store
from support.ports import free_port
from support.rgw import rgw_server
from support.servers import end, is_listening, wait_until

_REGION = "us-east-1"
_BUCKET = "mainstay-tests"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server with one bucket."""

    name: str
    endpoint: str
    access_key: str = "AKIDTEST"
    secret_key: str = "SECRETTEST"
    bucket: str = _BUCKET

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to use it: credentials are never part of a location."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def url(self, prefix: str, *, bucket: str | None = None) -> str:
        """The location of an object store under `prefix`: take a fresh one for each store."""
        return f"s3://{bucket or self.bucket}/{prefix}?region={_REGION}&endpoint={self.endpoint}"

    def open(self, prefix: str, *, bucket: str | None = None) -> ObjectStore:
        """The store under `prefix`, opened with this server's credentials."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return open_object_store(self.url(prefix, bucket=bucket))

    def make_bucket(self) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=_REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"max_attempts": 2}),
        )
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=self.bucket)
        finally:
            client.close()


class MotoServer:
    """moto: starts in a second, keeps all in memory, checks no signatures. `stop` and `start` at will."""

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", "from moto.server import main; main()"]
        self._process = process = subprocess.Popen(
            [*command, "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(
            lambda: is_listening(self.port),
            timeout_s=60,
            what="start of moto",
            still_possible=lambda: process.poll() is None,
        )

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """A started moto with an empty bucket; gone afterwards."""
    moto = MotoServer()
    moto.start()
    try:
        server = S3Server("moto", moto.endpoint)
        server.make_bucket()
        yield server
    finally:
        moto.stop()


@contextlib.contextmanager
def strict_s3_server() -> Iterator[S3Server]:
    """A started Ceph RGW with an empty bucket: checks signatures, as S3 does. Skips when not installed."""
    with rgw_server() as rgw:
        yield S3Server("rgw", rgw.endpoint, rgw.access_key, rgw.secret_key, rgw.new_bucket())


@contextlib.contextmanager
def external_server() -> Iterator[S3Server]:
    """The server that `MAINSTAY_TEST_S3_ENDPOINT` names."""
    keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    server = S3Server("external", os.environ["MAINSTAY_TEST_S3_ENDPOINT"], *keys)
    server.make_bucket()
    yield server


def _all_servers() -> dict[str, Callable[[], AbstractContextManager[S3Server]]]:
    servers: dict[str, Callable[[], AbstractContextManager[S3Server]]] = {
        "moto": s3_server,
        "rgw": strict_s3_server,
    }
    if os.environ.get("MAINSTAY_TEST_S3_ENDPOINT"):
        servers["external"] = external_server
    return servers


SERVERS = _all_servers()
"""Every server the contract suite runs on."""


class RunningServers(contextlib.ExitStack):
    """Servers by name, each started when it is first asked for and ended with this."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[str, S3Server] = {}

    def __getitem__(self, name: str) -> S3Server:
        if name not in self._running:
            self._running[name] = self.enter_context(SERVERS[name]())
        return self._running[name]
