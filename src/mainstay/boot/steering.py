"""From the settings of a node to how clients are led to the primary: records in DNS, hooks."""

from collections.abc import Mapping
from typing import Any

from mainstay.ops.traffic.choice import Traffic, problems

NAMES = (
    "on_promote",
    "on_demote",
    "hook_seconds",
    "dns_provider",
    "dns_records",
    "dns_server",
    "dns_zone",
    "dns_zone_id",
    "dns_key_file",
    "dns_endpoint",
    "dns_seconds",
)
"""Of each machine: they name files and addresses of its own site."""


def problems_of(values: Mapping[str, Any]) -> list[str]:
    """What does not go together, among settings that could all be read."""
    return problems(chosen(values)) if all(name in values for name in NAMES) else []


def chosen(values: Mapping[str, Any]) -> Traffic:
    """The settings of the same names, as `ops.traffic` takes them."""
    server = values["dns_server"]
    return Traffic(
        records=values["dns_records"],
        provider=values["dns_provider"],
        server_host=server.host if server else "",
        server_port=server.port if server else 0,
        zone=values["dns_zone"],
        zone_id=values["dns_zone_id"],
        key_file=values["dns_key_file"],
        endpoint=values["dns_endpoint"],
        dns_limit_s=values["dns_seconds"],
        on_promote=values["on_promote"],
        on_demote=values["on_demote"],
        hook_limit_s=values["hook_seconds"],
    )
