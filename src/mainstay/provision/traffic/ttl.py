"""Judge how long resolvers keep a record. Pure: what was seen in, a verdict and its reason out.

Nobody can shorten what resolvers have already been told: the TTL that is found counts, not the one that is
wished. Clients that still go to the old site are forwarded by it once it is a replica, so a long TTL costs
speed after a planned failover, and the service itself when the old site is gone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mainstay.provision.traffic.records import TTL_ADVISED_S, Found, Record

_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class TtlFinding:
    """One record, judged."""

    name: str
    verdict: Literal["ok", "warning"]
    says: str


def ttl_findings(seen: Iterable[tuple[Record, Found]]) -> list[TtlFinding]:
    """Each warning is a reason to lower a TTL, and to wait out the old one, before a planned failover."""
    return [_judge(record, found) for record, found in seen]


def _judge(record: Record, found: Found) -> TtlFinding:
    name = f"{record.name} {record.type}"
    least, most = TTL_ADVISED_S
    if found.ttl_s is None:
        return TtlFinding(name, "ok", "not there yet, so no resolver keeps it")
    if found.ttl_s > most:
        return TtlFinding(
            name,
            "warning",
            f"TTL {found.ttl_s} s: clients may go to the old site for {_shown(found.ttl_s)} after a move; it"
            f" forwards them while it lives. Lower it to {least} to {most} s, and wait {_shown(found.ttl_s)}"
            " before a planned failover",
        )
    if record.ttl_s > most:
        return TtlFinding(
            name,
            "warning",
            f"TTL {found.ttl_s} s, but the next move makes it {record.ttl_s} s: see dns_records",
        )
    if found.ttl_s < least:
        return TtlFinding(
            name, "ok", f"TTL {found.ttl_s} s: quick; {least} s would spare the name servers many questions"
        )
    return TtlFinding(name, "ok", f"TTL {found.ttl_s} s: clients follow a move within {_shown(found.ttl_s)}")


def _shown(seconds: int) -> str:
    """Rounded up: nobody is promised less than it may take."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds} s"
    minutes = -(-seconds // _MINUTE_S)
    return f"{minutes} minutes" if minutes < 2 * _MINUTE_S else f"{-(-minutes // _MINUTE_S)} hours"
