"""Records in a hosted zone of Amazon Route 53.

A batch of changes is done as a whole or not at all. It deletes record and mark exactly as they were found and
creates them anew: were either changed in between, Route 53 refuses the batch. What it has taken it does, but
up to a minute later on the last of its name servers; that is waited for only a little while.

boto3 is large and most sites have no use for it: it is not among what a node needs, but an extra.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from mainstay.foundation.errors import MainstayError, NotFound
from mainstay.provision.traffic.credentials import AccessKey
from mainstay.provision.traffic.records import Found, Record, Wanted, is_inside, plain_name, plain_value
from mainstay.provision.traffic.zones import (
    EXCHANGE_S_MAX,
    ChangedMeanwhile,
    DnsAway,
    DnsRefused,
    NameServer,
    ZoneMismatch,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_REGION = "us-east-1"
"""Route 53 is the same everywhere; its signatures name this one."""
_IN_SYNC_S_MAX = 8.0
_IN_SYNC_PAUSE_S = 1.0
_NOT_EVERYWHERE = " (the last of Amazon's name servers follow within a minute)"
_NO_MARK = "mainstay rehearsal"
_OCTAL = re.compile(r"\\([0-7]{3})")
_DENIED = {"AccessDenied", "AccessDeniedException", "UnrecognizedClientException"}
_BAD_KEY = {
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "ExpiredToken",
}


class Boto3Missing(NotFound):
    """Route 53 was asked for, and what speaks to it is not installed."""


class Route53Zone:
    """One hosted zone."""

    def __init__(
        self,
        zone_id: str,
        *,
        access_key: AccessKey | None = None,
        endpoint: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Without a key the usual places of AWS are looked at: environment, files, the machine's role."""
        self._zone_id = zone_id.removeprefix("/hostedzone/")
        self._client = _client(access_key, endpoint)
        self._sleep = sleep
        self._is_emulated = bool(endpoint)
        self._zone = ""

    def look(self, record: Record) -> Found:
        self._check_inside(record)
        ours, mark = self._set_of(record.name, record.type), self._set_of(record.mark_name, "TXT")
        return Found(
            values=frozenset(plain_value(each, record.type) for each in _values(ours)),
            ttl_s=_ttl_s(ours),
            marks=frozenset(each.strip('"') for each in _values(mark)),
            mark_ttl_s=_ttl_s(mark),
        )

    def replace(self, record: Record, found: Found, wanted: Wanted) -> str:
        fresh = [
            _change("CREATE", record.name, record.type, wanted.ttl_s, wanted.values),
            _change("CREATE", record.mark_name, "TXT", wanted.ttl_s, [f'"{wanted.mark}"']),
        ]
        done = self._change([*_deletions(record, found), *fresh], record)
        return "" if self._is_soon_in_sync(done["ChangeInfo"]["Id"]) else _NOT_EVERYWHERE

    def rehearse(self, record: Record, found: Found) -> None:  # noqa: ARG002 - the condition is in the batch
        """Delete what is not there: the batch never succeeds, and who may not try is told so first."""
        absent = [_change("DELETE", record.mark_name, "TXT", 1, [f'"{_NO_MARK}"'])]
        try:
            self._change(absent, record)
        except ChangedMeanwhile:
            return

    def name_servers(self) -> list[NameServer]:
        """Amazon's, if any: a private zone has none, and an emulator's answer nobody."""
        if self._is_emulated:
            return []
        zone = self._call("get_hosted_zone", Id=self._zone_id)
        names = zone.get("DelegationSet", {}).get("NameServers", [])
        from mainstay.provision.traffic.asking import serial_at  # noqa: PLC0415 - dnspython, and only here

        return [serial_at(name, zone=zone["HostedZone"]["Name"]) for name in names]

    # Record sets
    def _check_inside(self, record: Record) -> None:
        if not self._zone:
            self._zone = plain_name(self._call("get_hosted_zone", Id=self._zone_id)["HostedZone"]["Name"])
        if not is_inside(record.name, self._zone):
            raise ZoneMismatch(
                f"{record.name} is not in the hosted zone {self._zone_id}, which is {self._zone}:"
                " see dns_zone_id"
            )

    def _set_of(self, name: str, kind: str) -> Mapping[str, Any] | None:
        """The record set of exactly this name and type."""
        answer = self._call(
            "list_resource_record_sets",
            HostedZoneId=self._zone_id,
            StartRecordName=name,
            StartRecordType=kind,
            MaxItems="1",
        )
        for each in answer["ResourceRecordSets"]:
            if (_unescaped(each["Name"]), each["Type"]) == (name, kind):
                return _plain_set(each)
        return None

    def _change(self, changes: list[dict[str, Any]], record: Record) -> Mapping[str, Any]:
        try:
            return self._call(
                "change_resource_record_sets",
                HostedZoneId=self._zone_id,
                ChangeBatch={"Comment": "Mainstay follows its primary", "Changes": changes},
            )
        except _Refused as refused:
            raise ChangedMeanwhile(
                f"{record.name} was changed by somebody else just now ({refused})"
            ) from refused

    def _is_soon_in_sync(self, change_id: str) -> bool:
        for _ in range(int(_IN_SYNC_S_MAX / _IN_SYNC_PAUSE_S)):
            if self._call("get_change", Id=change_id)["ChangeInfo"]["Status"] == "INSYNC":
                return True
            self._sleep(_IN_SYNC_PAUSE_S)
        return False

    # Calls
    def _call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        from botocore.exceptions import (  # noqa: PLC0415 - boto3 is an extra
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            PartialCredentialsError,
        )

        try:
            answer: Mapping[str, Any] = getattr(self._client, operation)(**arguments)
        except ClientError as error:
            _raise(error, self._zone_id)
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise DnsRefused(
                "no credentials for Route 53: set dns_key_file, or give this machine a role"
            ) from error
        except BotoCoreError as error:
            raise DnsAway(f"Route 53 cannot be reached: {error}") from error
        return answer


class _Refused(MainstayError):
    """Route 53 did not do a batch because of what it says."""


def _raise(error: "ClientError", zone_id: str) -> NoReturn:
    code, said = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    if code == "InvalidChangeBatch":
        raise _Refused(said) from error
    if code == "NoSuchHostedZone":
        raise ZoneMismatch(f"there is no hosted zone {zone_id} in Route 53: see dns_zone_id") from error
    if code in _BAD_KEY:
        raise DnsRefused(f"Route 53 does not take the credentials ({code})") from error
    if code in _DENIED:
        raise DnsRefused(f"Route 53 does not let these credentials do that: {said}") from error
    raise DnsAway(f"Route 53 answers {code or 'an error'}: {said}") from error


def _client(access_key: AccessKey | None, endpoint: str) -> Any:
    try:
        import boto3  # noqa: PLC0415 - boto3 is an extra
        from botocore.config import Config  # noqa: PLC0415 - same
    except ImportError as error:
        raise Boto3Missing(
            "Route 53 needs boto3, which is not installed here: pip install 'boto3>=1.40'"
        ) from error
    keys = (
        {"aws_access_key_id": access_key.id, "aws_secret_access_key": access_key.secret.reveal()}
        if access_key
        else {}
    )
    limits = Config(
        connect_timeout=EXCHANGE_S_MAX,
        read_timeout=EXCHANGE_S_MAX,
        retries={"mode": "standard", "max_attempts": 2},
    )
    return boto3.Session().client(
        "route53", region_name=_REGION, endpoint_url=endpoint or None, config=limits, **keys
    )


def _deletions(record: Record, found: Found) -> list[dict[str, Any]]:
    """What was found, exactly: Route 53 deletes nothing else."""
    changes = []
    if found.ttl_s is not None:
        changes.append(_change("DELETE", record.name, record.type, found.ttl_s, found.values))
    if found.mark_ttl_s is not None:
        marks = [f'"{each}"' for each in found.marks]
        changes.append(_change("DELETE", record.mark_name, "TXT", found.mark_ttl_s, marks))
    return changes


def _change(action: str, name: str, kind: str, ttl_s: int, values: Iterable[str]) -> dict[str, Any]:
    records = [{"Value": each} for each in sorted(values)]
    return {
        "Action": action,
        "ResourceRecordSet": {"Name": f"{name}.", "Type": kind, "TTL": ttl_s, "ResourceRecords": records},
    }


def _plain_set(record_set: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same; raises `ZoneMismatch` for what only Route 53 has, which is left to its owner."""
    name = _unescaped(record_set["Name"])
    if "AliasTarget" in record_set:
        raise ZoneMismatch(
            f"{name} is an alias in Route 53, which Mainstay does not replace: make it a plain record"
        )
    if "SetIdentifier" in record_set:
        raise ZoneMismatch(
            f"{name} has a routing policy in Route 53, which Mainstay does not replace: make it simple"
        )
    return record_set


def _values(record_set: Mapping[str, Any] | None) -> list[str]:
    return [each["Value"] for each in record_set["ResourceRecords"]] if record_set else []


def _ttl_s(record_set: Mapping[str, Any] | None) -> int | None:
    return int(record_set["TTL"]) if record_set else None


def _unescaped(name: str) -> str:
    return plain_name(_OCTAL.sub(lambda match: chr(int(match[1], 8)), name))
