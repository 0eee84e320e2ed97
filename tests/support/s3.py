"""S3 servers for tests: moto in a process of its own, and any other that the environment names.

`MAINSTAY_TEST_S3_ENDPOINT=http://127.0.0.1:5907` adds a server that runs already (such as Ceph RGW), with
the credentials of the usual `AWS_*` variables. A further server that tests start themselves is one more
entry of `SERVERS`.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import boto3
import pytest
from botocore.config import Config

from support.servers import end, free_port, is_listening, wait_until

_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "SECRETTEST"}
_REGION = "us-east-1"
_BUCKET = "mainstay-tests"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server with one bucket. Its credentials are in this process's environment."""

    name: str
    endpoint: str
    bucket: str = _BUCKET

    def url(self, prefix: str, *, bucket: str | None = None) -> str:
        """The location of an object store under `prefix`: take a fresh one for each store."""
        return f"s3://{bucket or self.bucket}/{prefix}?region={_REGION}&endpoint={self.endpoint}"

    def make_bucket(self) -> None:
        client = boto3.client(
            "s3", endpoint_url=self.endpoint, region_name=_REGION, config=Config(retries={"max_attempts": 2})
        )
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=self.bucket)
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
            end(self._process, with_signal=signal.SIGTERM)


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """A started moto with an empty bucket; gone afterwards."""
    moto = MotoServer()
    with credentials():
        moto.start()
        try:
            server = S3Server("moto", moto.endpoint)
            server.make_bucket()
            yield server
        finally:
            moto.stop()


@contextlib.contextmanager
def external_server() -> Iterator[S3Server]:
    """The server that `MAINSTAY_TEST_S3_ENDPOINT` names."""
    server = S3Server("external", os.environ["MAINSTAY_TEST_S3_ENDPOINT"])
    server.make_bucket()
    yield server


@contextlib.contextmanager
def credentials() -> Iterator[None]:
    """Credentials in the environment, where obstore and boto3 look for them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _CREDENTIALS.items():
            patch.setenv(name, value)
        yield


def _all_servers() -> dict[str, Callable[[], AbstractContextManager[S3Server]]]:
    servers: dict[str, Callable[[], AbstractContextManager[S3Server]]] = {"moto": s3_server}
    if os.environ.get("MAINSTAY_TEST_S3_ENDPOINT"):
        servers["external"] = external_server
    return servers


SERVERS = _all_servers()
"""Every server the contract suite runs on."""
