"""A real S3 server that checks signatures: Ceph's RADOS gateway, as plain processes on loopback.

It is the one of the local stack (`mainstay.provision.local.rgw`), ready in 9 to 17 s: one per test process.
`tools/rgw.sh fetch` puts the programs into `.servers/rgw`; without them the test is skipped loudly.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import boto3

from mainstay.provision.local import ProgramMissing
from mainstay.provision.local.member import HERE
from mainstay.provision.local.rgw import Rgw
from support.servers import scratch_directory, skip_missing


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where an S3 server is, and who may use it."""

    endpoint: str
    access_key: str
    secret_key: str

    def new_bucket(self) -> str:
        """Create an empty bucket and return its name."""
        bucket = f"test-{secrets.token_hex(6)}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )
        try:
            client.create_bucket(Bucket=bucket)
        finally:
            client.close()
        return bucket


@contextlib.contextmanager
def rgw_server() -> Iterator[S3Server]:
    """A started S3 server with one user; gone afterwards."""
    with scratch_directory("mainstay-rgw-") as directory:
        try:
            gateway = Rgw(place=HERE, directory=directory)
        except ProgramMissing as missing:
            skip_missing("Ceph RGW", f"tools/rgw.sh fetch: {missing}")
        try:
            gateway.start()
            keys = gateway.credentials
            yield S3Server(f"http://{gateway.address}", keys.access_key, keys.secret_key)
        finally:
            gateway.kill()
            gateway.close()
