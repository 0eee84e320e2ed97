"""An emulated Route 53 that keeps its word about batches.

moto does what a batch says even when its DELETE names other values than those that are there. The real one
refuses the whole batch, which is what keeps two sites from fighting. `route53()` is moto with that rule.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.route53.exceptions import Route53ClientError
from moto.route53.models import Route53Backend
from moto.server import ThreadedMotoServer

from mainstay.foundation.logs import Secret
from mainstay.provision.traffic.credentials import AccessKey
from mainstay.provision.traffic.route53 import Route53Zone
from support.ports import free_port

ZONE = "example.test"
_KEYS = {"aws_access_key_id": "AKIDTEST", "aws_secret_access_key": "SECRETTEST"}


@dataclass(frozen=True, slots=True)
class Route53:
    endpoint: str
    zone_id: str
    client: Any

    def zone_with(self, *, zone_id: str = "") -> Route53Zone:
        """What is tested, before this server."""
        key = AccessKey(_KEYS["aws_access_key_id"], Secret(_KEYS["aws_secret_access_key"]))
        return Route53Zone(
            zone_id or self.zone_id, access_key=key, endpoint=self.endpoint, sleep=lambda _: None
        )

    def ask(self, name: str, kind: str) -> list[str]:
        return sorted(each["Value"] for each in self.sets(name, kind) for each in each["ResourceRecords"])

    def sets(self, name: str, kind: str) -> list[dict[str, Any]]:
        answer = self.client.list_resource_record_sets(HostedZoneId=self.zone_id)
        wanted = (f"{name}.", kind)
        found = answer["ResourceRecordSets"]
        return [each for each in found if (each["Name"].replace("\\052", "*"), each["Type"]) == wanted]

    def add(self, name: str, kind: str, value: str, *, ttl_s: int = 60) -> None:
        record_set = {"Name": f"{name}.", "Type": kind, "TTL": ttl_s, "ResourceRecords": [{"Value": value}]}
        self.upsert(record_set)

    def upsert(self, record_set: dict[str, Any]) -> None:
        batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record_set}]}
        self.client.change_resource_record_sets(HostedZoneId=self.zone_id, ChangeBatch=batch)


def write_access_key(file: Path) -> Path:
    """As the AWS tools keep it."""
    file.write_text("[default]\n" + "".join(f"{name} = {value}\n" for name, value in _KEYS.items()))
    file.chmod(0o600)
    return file


@contextlib.contextmanager
def route53() -> Iterator[Route53]:
    """A started server with one empty zone; gone afterwards."""
    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Route53Backend, "change_resource_record_sets", _strictly)
        server.start()
        try:
            endpoint = f"http://127.0.0.1:{port}"
            client = boto3.Session().client(
                "route53", region_name="us-east-1", endpoint_url=endpoint, **_KEYS
            )
            zone_id = client.create_hosted_zone(Name=ZONE, CallerReference="test")["HostedZone"]["Id"]
            yield Route53(endpoint, zone_id.removeprefix("/hostedzone/"), client)
        finally:
            server.stop()


_change = Route53Backend.change_resource_record_sets


def _strictly(self: Route53Backend, zoneid: str, change_list: list[dict[str, Any]]) -> None:
    """As in the API reference: DELETE names exactly what is there, CREATE what is not; or nothing is done."""
    there = {(each.name, each.type): (int(each.ttl), _values(each.records)) for each in _sets(self, zoneid)}
    for change in change_list:
        asked = change["ResourceRecordSet"]
        key = f"{asked['Name'].rstrip('.')}.", asked["Type"]
        told = int(asked.get("TTL", 0)), _values(asked.get("ResourceRecords", []))
        if change["Action"] == "DELETE" and there.pop(key, None) != told:
            raise _InvalidChangeBatch(
                f"[Tried to delete resource record set {key}, which is not there like that]"
            )
        if change["Action"] == "CREATE" and key in there:
            raise _InvalidChangeBatch(f"[Tried to create resource record set {key} but it already exists]")
        if change["Action"] == "CREATE":
            there[key] = told
    _change(self, zoneid, change_list)


def _values(records: list[Any]) -> frozenset[str]:
    """Moto has them in two shapes."""
    return frozenset(each["Value"] if isinstance(each, dict) else each for each in records)


def _sets(backend: Route53Backend, zone_id: str) -> list[Any]:
    return [each for each in backend.get_hosted_zone(zone_id).rrsets if each.ttl]


class _InvalidChangeBatch(Route53ClientError):
    def __init__(self, message: str) -> None:
        super().__init__("InvalidChangeBatch", message)
