"""What the operator chose: which records follow the primary, who keeps them, which hooks run.

`problems` and `problems_on_disk` say what is wrong with the choice before anything depends on it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mainstay.foundation.errors import Invalid
from mainstay.provision.traffic import credentials, hooks
from mainstay.provision.traffic.records import Record, is_inside, plain_name, problems_of
from mainstay.provision.traffic.zones import Zone

Provider = Literal["none", "rfc2136", "route53"]


class NoRecords(Invalid):
    """There is no record to look at or to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """All of it. The default is that nobody is told anything."""

    records: tuple[Record, ...] = ()
    provider: Provider = "none"
    server_host: str = ""
    server_port: int = 53
    zone: str = ""
    """RFC 2136: the name of the zone."""
    zone_id: str = ""
    """Route 53: the hosted zone."""
    key_file: Path | None = None
    endpoint: str = ""
    dns_limit_s: int = 20
    on_promote: Path | None = None
    on_demote: Path | None = None
    hook_limit_s: int = 30


def problems(traffic: Traffic) -> list[str]:
    """What does not go together, by the settings' names. Looks at no file."""
    found = [f"dns_records: {each}" for each in problems_of(traffic.records)]
    if traffic.records and traffic.provider == "none":
        found.append("dns_records: say with dns_provider who keeps them, rfc2136 or route53")
    if traffic.provider == "none":
        return found
    if not traffic.records:
        found.append("dns_provider: name the records that follow the primary with dns_records")
    return found + (
        _rfc2136_problems(traffic) if traffic.provider == "rfc2136" else _route53_problems(traffic)
    )


def problems_on_disk(traffic: Traffic) -> list[str]:
    """What is wrong with the files that are named."""
    chosen = {"on_promote": traffic.on_promote, "on_demote": traffic.on_demote}
    found = [f"{name}: {said}" for name, hook in chosen.items() if hook and (said := hooks.problem_of(hook))]
    if traffic.key_file and (said := credentials.problem_of(traffic.key_file)):
        found.append(f"dns_key_file: {said}")
    return found


def open_zone(traffic: Traffic) -> Zone:
    """The keeper of the records. Reads the key file. Raises `NoRecords`, `BadSecretFile`, `Boto3Missing`."""
    if traffic.provider == "route53":
        from mainstay.provision.traffic.route53 import Route53Zone  # noqa: PLC0415 - boto3 is an extra

        key = credentials.read_access_key(traffic.key_file) if traffic.key_file else None
        return Route53Zone(traffic.zone_id, access_key=key, endpoint=traffic.endpoint)
    if traffic.provider == "none" or traffic.key_file is None:
        raise NoRecords(
            "no record follows the primary: set dns_records and dns_provider (docs/run/traffic.md)"
        )
    from mainstay.provision.traffic.dns_update import Rfc2136Zone  # noqa: PLC0415 - only who moves names pays for dnspython

    return Rfc2136Zone(
        host=traffic.server_host,
        port=traffic.server_port,
        zone=plain_name(traffic.zone),
        key=credentials.read_tsig_key(traffic.key_file),
    )


def _rfc2136_problems(traffic: Traffic) -> list[str]:
    needed = {"dns_server": traffic.server_host, "dns_zone": traffic.zone, "dns_key_file": traffic.key_file}
    missing = [f"{name}: needed for dns_provider rfc2136" for name, value in needed.items() if not value]
    zone = plain_name(traffic.zone)
    outside = [
        f"dns_records: {record.name} is not in the zone {zone}"
        for record in traffic.records
        if zone and not is_inside(record.name, zone)
    ]
    apex = [
        f"dns_records: {zone} is the zone itself, which cannot be a CNAME: use A or AAAA"
        for record in traffic.records
        if record.type == "CNAME" and record.name == zone
    ]
    return missing + outside + apex


def _route53_problems(traffic: Traffic) -> list[str]:
    return [] if traffic.zone_id else ["dns_zone_id: needed for dns_provider route53"]
