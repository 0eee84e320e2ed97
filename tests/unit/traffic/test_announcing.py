"""What becomes of each record and hook is told; nothing that fails is raised. Before zones in memory."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from mainstay.foundation.errors import MainstayError
from mainstay.ops.traffic import announcing, checking
from mainstay.ops.traffic.announcing import Facts, announce
from mainstay.ops.traffic.checking import NoSuchTarget, check, exit_code_of, update_by_hand
from mainstay.ops.traffic.choice import NoRecords, Traffic, open_zone, problems
from mainstay.provision.traffic.records import Found, Mark, Record, Wanted, parse_record
from mainstay.provision.traffic.zones import ChangedMeanwhile, DnsRefused, NameServer

ONE = parse_record("git.example.org A 60 one=192.0.2.1 two=192.0.2.2")
TWO = parse_record("ssh.example.org CNAME 60 one=a.example.org two=b.example.org")
TRAFFIC = Traffic(records=(ONE, TWO), provider="rfc2136", zone="example.org")


@dataclass
class Memory:
    """A zone that does as it is told, but for the names for which it was told otherwise."""

    found: dict[str, Found] = field(default_factory=dict)
    faults: dict[str, Callable[[], None]] = field(default_factory=dict)
    servers: list[NameServer] = field(default_factory=lambda: [NameServer("ns1.example.org", 5)])
    updates: int = 0

    def look(self, record: Record) -> Found:
        self.faults.get(record.name, lambda: None)()
        return self.found.get(record.name, Found())

    def replace(self, record: Record, found: Found, wanted: Wanted) -> str:
        if self.found.get(record.name, Found()) != found:
            raise ChangedMeanwhile("changed")
        self.updates += 1
        self.found[record.name] = Found(
            values=wanted.values,
            ttl_s=wanted.ttl_s,
            marks=frozenset({str(wanted.mark)}),
            mark_ttl_s=wanted.ttl_s,
        )
        return ""

    def rehearse(self, record: Record, found: Found) -> None:
        self.faults.get(f"rehearse {record.name}", lambda: None)()

    def name_servers(self) -> list[NameServer]:
        return self.servers


def fails(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def facts(site: str, epoch: int) -> Facts:
    return Facts(epoch=epoch, site=site)


def test_all_names_move_with_a_promotion_and_none_with_a_demotion() -> None:
    zone = Memory()
    assert announce("demote", facts("two", 3), traffic=TRAFFIC, zone_of=lambda _: zone) == []
    outcomes = announce("promote", facts("two", 3), traffic=TRAFFIC, zone_of=lambda _: zone)
    assert [(each.what, each.is_done, each.says) for each in outcomes] == [
        ("dns git.example.org A", True, "git.example.org A: nothing -> 192.0.2.2"),
        ("dns ssh.example.org CNAME", True, "ssh.example.org CNAME: nothing -> b.example.org"),
    ]
    again = announce("promote", facts("two", 3), traffic=TRAFFIC, zone_of=lambda _: zone)
    assert all("already" in each.says for each in again)
    assert zone.updates == 2


def test_what_fails_is_told_and_logged_and_stops_nothing_else() -> None:
    zone = Memory(faults={ONE.name: fails(DnsRefused("the server refuses"))})
    with structlog.testing.capture_logs() as lines:
        first, second = announce("promote", facts("two", 3), traffic=TRAFFIC, zone_of=lambda _: zone)
    assert (first.is_done, first.says) == (False, "the server refuses")
    assert second.is_done
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("traffic.announcement_failed", "error"),
        ("traffic.announced", "info"),
    ]


def test_an_old_primary_does_not_take_names_back() -> None:
    zone = Memory()
    announce("promote", facts("two", 4), traffic=TRAFFIC, zone_of=lambda _: zone)
    outcomes = announce("promote", facts("one", 3), traffic=TRAFFIC, zone_of=lambda _: zone)
    assert all(not each.is_done and "it is left alone" in each.says for each in outcomes)
    assert zone.found[ONE.name].values == {"192.0.2.2"}


def test_a_site_without_values_and_a_bug_are_failures_and_not_exceptions() -> None:
    outcomes = announce("promote", facts("three", 1), traffic=TRAFFIC, zone_of=lambda _: Memory())
    assert all("has no value for the site 'three'" in each.says for each in outcomes)
    broken = Memory(faults={ONE.name: fails(ZeroDivisionError())})
    first, _ = announce("promote", facts("one", 1), traffic=TRAFFIC, zone_of=lambda _: broken)
    assert (first.is_done, first.says) == (False, "bug: ZeroDivisionError")


def test_the_limit_holds_for_all_names_together() -> None:
    go_on = threading.Event()
    zone = Memory(faults={ONE.name: lambda: go_on.wait(60) or None})
    traffic = Traffic(records=(ONE, TWO), provider="rfc2136", dns_limit_s=1)
    try:
        first, second = announce("promote", facts("one", 1), traffic=traffic, zone_of=lambda _: zone)
    finally:
        go_on.set()
    assert (first.is_done, first.says) == (
        False,
        "unknown: no end within 1 s; look with `mainstay dns check`",
    )
    assert second.is_done


def test_a_hook_runs_after_the_names_even_when_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    zone = Memory(faults={ONE.name: lambda: order.append("name")})

    def run(*_: object, **__: object) -> announcing.HookEnd:
        order.append("hook")
        return announcing.HookEnd(exit_code=0, output="", was_too_slow=False, took_ms=3)

    monkeypatch.setattr(announcing, "run_hook", run)
    traffic = Traffic(records=(ONE,), provider="rfc2136", on_promote=Path("/hook"))
    outcomes = announce("promote", facts("one", 1), traffic=traffic, zone_of=lambda _: zone)
    assert order[-1] == "hook"
    assert outcomes[-1].says == "ended with exit code 0"


# The look beforehand


def said_by(zone: Memory, *, to: str = "") -> tuple[int, list[str]]:
    findings = check(TRAFFIC, to=to, zone_of=lambda _: zone)
    return exit_code_of(findings), [f"{each.verdict} {each.name}: {each.says}" for each in findings]


def moved(site: str, epoch: int = 1) -> Memory:
    zone = Memory()
    announce("promote", facts(site, epoch), traffic=TRAFFIC, zone_of=lambda _: zone)
    return zone


def test_a_check_says_what_would_change_and_changes_nothing() -> None:
    zone = moved("one", 6)
    before = dict(zone.found)
    code, lines = said_by(zone)
    assert code == 0
    assert zone.found == before
    assert lines[:5] == [
        "ok git.example.org A: leads to 192.0.2.1 (one), moved last in epoch 6 for one",
        "ok git.example.org A: a promotion of one would leave it at 192.0.2.1",
        "ok git.example.org A: a promotion of two would update it from 192.0.2.1 to 192.0.2.2",
        "ok git.example.org A: the credentials may change it",
        "ok git.example.org A: TTL 60 s: clients follow a move within 60 s",
    ]
    assert lines[-1] == "ok name server ns1.example.org: answers, serial 5"
    assert len(said_by(zone, to="two")[1]) == len(lines) - 2


def test_a_check_warns() -> None:
    zone = moved("one")
    zone.found[ONE.name] = Found(values=frozenset({"203.0.113.1"}), ttl_s=3600)
    del zone.found[TWO.name]
    zone.servers = [NameServer("a", 5), NameServer("b", 4), NameServer("c", None, "does not answer: timeout")]
    code, lines = said_by(zone)
    assert code == 1
    text = "\n".join(lines)
    for said in (
        "warning git.example.org A: leads to 203.0.113.1, which is no site's value in dns_records",
        "warning git.example.org A: TTL 3600 s: clients may go to the old site for 60 minutes",
        "warning ssh.example.org CNAME: leads nowhere: there is no such record yet",
        "warning name server b: has serial 4 of the zone, another has 5 already",
        "warning name server c: does not answer: timeout",
    ):
        assert said in text


def test_a_check_fails_where_a_promotion_would() -> None:
    zone = moved("one")
    zone.faults[f"rehearse {ONE.name}"] = fails(DnsRefused("no right"))
    code, lines = said_by(zone)
    assert code == 2
    assert "failed git.example.org A: no right" in lines
    assert said_by(moved("one"), to="three")[0] == 2

    def no_zone(_: Traffic) -> Memory:
        raise NoRecords("no key")

    (finding,) = check(TRAFFIC, zone_of=no_zone)
    assert (finding.name, finding.verdict, finding.says) == ("credentials", "failed", "no key")
    with pytest.raises(NoRecords, match="no record follows the primary: set dns_records"):
        check(Traffic())


def test_the_ttls_before_a_planned_failover() -> None:
    zone = moved("one")
    zone.found[ONE.name] = Found(values=frozenset({"192.0.2.1"}), ttl_s=3600)
    verdicts = [each.verdict for each in checking.seen_ttls(TRAFFIC, zone_of=lambda _: zone)]
    assert verdicts == ["warning", "ok"]
    assert checking.seen_ttls(Traffic()) == []


# By hand


def by_hand(zone: Memory, to: str, **more: object) -> list[tuple[bool, str]]:
    done = update_by_hand(TRAFFIC, to=to, zone_of=lambda _: zone, **more)  # type: ignore[arg-type]  # name, epoch
    return [(each.is_done, each.says) for each in done]


def test_by_hand_a_name_moves_within_its_epoch() -> None:
    zone = moved("one", 6)
    assert by_hand(zone, "two") == [
        (True, "git.example.org A: 192.0.2.1 -> 192.0.2.2"),
        (True, "ssh.example.org CNAME: a.example.org -> b.example.org"),
    ]
    assert zone.found[ONE.name].marks == {str(Mark(6, "two"))}
    assert by_hand(zone, "203.0.113.5", name=ONE.name) == [
        (True, "git.example.org A: 192.0.2.2 -> 203.0.113.5")
    ]
    assert zone.found[ONE.name].marks == {str(Mark(6, "by-hand"))}
    ((is_done, says),) = by_hand(zone, "one", name=ONE.name, epoch=5)
    assert not is_done
    assert "ours is 5: it is left alone" in says
    assert by_hand(zone, "one", epoch=8)[0][0]
    assert zone.found[ONE.name].marks == {str(Mark(8, "one"))}


@pytest.mark.parametrize(
    ("to", "name", "said"),
    [
        ("three", "", "is none of the sites one, two, and 'three' is not an IPv4 address"),
        ("192.0.2.7", "git.example.com", "'git.example.com' is none of the names in dns_records"),
    ],
)
def test_by_hand_a_target_that_makes_no_sense_changes_nothing(to: str, name: str, said: str) -> None:
    zone = moved("one")
    with pytest.raises(NoSuchTarget, match=said):
        by_hand(zone, to, name=name)
    assert zone.updates == 2


# The choice


@pytest.mark.parametrize(
    ("traffic", "said"),
    [
        (Traffic(), []),
        (Traffic(records=(ONE,)), ["dns_records: say with dns_provider who keeps them, rfc2136 or route53"]),
        (
            Traffic(provider="route53", zone_id="Z"),
            ["dns_provider: name the records that follow the primary with dns_records"],
        ),
        (Traffic(records=(ONE,), provider="route53"), ["dns_zone_id: needed for dns_provider route53"]),
        (
            Traffic(records=(ONE,), provider="rfc2136"),
            [
                f"{name}: needed for dns_provider rfc2136"
                for name in ("dns_server", "dns_zone", "dns_key_file")
            ],
        ),
        (
            Traffic(
                records=(ONE,), provider="rfc2136", server_host="ns", zone="example.com", key_file=Path("/k")
            ),
            ["dns_records: git.example.org is not in the zone example.com"],
        ),
        (
            Traffic(records=(TWO,), provider="rfc2136", server_host="ns", zone=TWO.name, key_file=Path("/k")),
            [f"dns_records: {TWO.name} is the zone itself, which cannot be a CNAME: use A or AAAA"],
        ),
    ],
)
def test_what_does_not_go_together_is_told(traffic: Traffic, said: list[str]) -> None:
    assert problems(traffic) == said


def test_nobody_keeps_the_records() -> None:
    with pytest.raises(MainstayError, match="set dns_records and dns_provider"):
        open_zone(Traffic())
