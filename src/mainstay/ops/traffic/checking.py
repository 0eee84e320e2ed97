"""Look whether a promotion could move the records, and move them by hand.

The look changes nothing. It asks the authoritative server, tries the credentials with an update that changes
nothing, judges TTLs, and asks the servers that the world asks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mainstay.foundation.errors import Invalid, MainstayError
from mainstay.ops.checkup import Finding, Verdict
from mainstay.ops.traffic.choice import NoRecords, Traffic, open_zone
from mainstay.provision.traffic.records import (
    BadRecord,
    Found,
    Mark,
    Record,
    Wanted,
    decide,
    mark_of,
    parse_values,
    shown,
)
from mainstay.provision.traffic.ttl import TtlFinding, ttl_findings
from mainstay.provision.traffic.zones import NameServer, Zone, move

BY_HAND = "by-hand"
"""The site in the mark of a record that was led to a value of no site."""
_EXIT_CODES = {"ok": 0, "warning": 1, "failed": 2}


class NoSuchTarget(Invalid):
    """Neither a site nor a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One record by hand."""

    what: str
    is_done: bool
    says: str


def exit_code_of(findings: Sequence[Finding]) -> int:
    """0: all is well; 1: warnings; 2: a promotion could not move a record."""
    return max((_EXIT_CODES[each.verdict] for each in findings), default=0)


def check(traffic: Traffic, *, to: str = "", zone_of: Callable[[Traffic], Zone] = open_zone) -> list[Finding]:
    """Everything that a move needs; with `to` only what it would do for that site. Raises `NoRecords`."""
    _require_records(traffic)
    try:
        zone = zone_of(traffic)
    except MainstayError as error:
        return [Finding("credentials", "failed", str(error))]
    findings = [each for record in traffic.records for each in _check_record(record, zone, to=to)]
    return [*findings, *_check_name_servers(zone)]


def seen_ttls(traffic: Traffic, *, zone_of: Callable[[Traffic], Zone] = open_zone) -> list[TtlFinding]:
    """The judgement before a planned failover; nothing when no record follows the primary.

    Raises what `Zone.look` raises.
    """
    if not traffic.records:
        return []
    zone = zone_of(traffic)
    return ttl_findings([(record, zone.look(record)) for record in traffic.records])


def update_by_hand(
    traffic: Traffic,
    *,
    to: str,
    name: str = "",
    epoch: int | None = None,
    zone_of: Callable[[Traffic], Zone] = open_zone,
) -> list[Moved]:
    """Lead all records, or that of one name, to a site or to a value. Raises `NoRecords`, `NoSuchTarget`.

    Without an epoch the one that is found stays: by hand a name moves within it.
    """
    _require_records(traffic)
    records = [record for record in traffic.records if name in ("", record.name)]
    if not records:
        raise NoSuchTarget(f"{name!r} is none of the names in dns_records")
    targets = {record: _target(record, to) for record in records}
    zone = zone_of(traffic)
    return [_move_by_hand(record, *targets[record], epoch=epoch, zone=zone) for record in records]


def _require_records(traffic: Traffic) -> None:
    if not traffic.records:
        raise NoRecords(
            "no record follows the primary: set dns_records and dns_provider (docs/run/traffic.md)"
        )


# The look


def _check_record(record: Record, zone: Zone, *, to: str) -> Iterator[Finding]:
    what = f"{record.name} {record.type}"
    try:
        found = zone.look(record)
        mark = mark_of(found, record)
        yield Finding(what, *_state(record, found, mark))
        yield from _would(record, found, mark, to=to)
        zone.rehearse(record, found)
    except MainstayError as error:
        yield Finding(what, "failed", str(error))
        return
    yield Finding(what, "ok", "the credentials may change it")
    for judged in ttl_findings([(record, found)]):
        yield Finding(judged.name, judged.verdict, judged.says)


def _state(record: Record, found: Found, mark: Mark | None) -> tuple[Verdict, str]:
    moved = f", moved last in epoch {mark.epoch} for {mark.site}" if mark else ""
    if not found.values:
        return "warning", f"leads nowhere: there is no such record yet{moved}"
    sites = record.sites_of(found.values)
    if not sites:
        return "warning", f"leads to {shown(found.values)}, which is no site's value in dns_records{moved}"
    return "ok", f"leads to {shown(found.values)} ({' and '.join(sites)}){moved}"


def _would(record: Record, found: Found, mark: Mark | None, *, to: str) -> Iterator[Finding]:
    """What a promotion of each site would do."""
    for site, values in record.sites:
        if to not in ("", site):
            continue
        epoch = mark.epoch + 1 if mark else 1
        wanted = Wanted(values=values, ttl_s=record.ttl_s, mark=Mark(epoch, site))
        decide(record, found, wanted, by_hand=False)
        says = f"a promotion of {site} would update it from {shown(found.values)} to {shown(values)}"
        if values == found.values:
            says = f"a promotion of {site} would leave it at {shown(values)}"
        yield Finding(f"{record.name} {record.type}", "ok", says)
    if to:
        record.values_of(to)


def _check_name_servers(zone: Zone) -> list[Finding]:
    try:
        servers = zone.name_servers()
    except MainstayError as error:
        return [Finding("name servers", "failed", str(error))]
    newest = max((each.serial for each in servers if each.serial is not None), default=None)
    return [_judge_server(each, newest) for each in servers]


def _judge_server(server: NameServer, newest: int | None) -> Finding:
    what = f"name server {server.name}"
    if server.serial is None:
        return Finding(what, "warning", server.problem)
    if server.serial != newest:
        return Finding(
            what, "warning", f"has serial {server.serial} of the zone, another has {newest} already"
        )
    return Finding(what, "ok", f"answers, serial {server.serial}")


# By hand


def _target(record: Record, to: str) -> tuple[str, frozenset[str]]:
    """Site and values."""
    for site, values in record.sites:
        if site == to:
            return site, values
    try:
        return BY_HAND, parse_values(to, record.type)
    except BadRecord as error:
        sites = ", ".join(site for site, _ in record.sites)
        raise NoSuchTarget(f"{record.name}: {to!r} is none of the sites {sites}, and {error}") from error


def _move_by_hand(
    record: Record, site: str, values: frozenset[str], *, epoch: int | None, zone: Zone
) -> Moved:
    what = f"{record.name} {record.type}"
    try:
        if epoch is None:
            mark = mark_of(zone.look(record), record)
            epoch = mark.epoch if mark else 0
        wanted = Wanted(values=values, ttl_s=record.ttl_s, mark=Mark(epoch, site))
        return Moved(what=what, is_done=True, says=move(record, wanted, zone=zone, by_hand=True))
    except MainstayError as error:
        return Moved(what=what, is_done=False, says=str(error))
