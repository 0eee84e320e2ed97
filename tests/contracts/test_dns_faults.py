"""What a person is told when a name server, a key or a zone is not what it should be: one sentence each."""

import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.foundation.errors import MainstayError
from mainstay.provision.traffic import asking, dns_update, zones
from mainstay.provision.traffic.dns_update import Rfc2136Zone
from mainstay.provision.traffic.records import Found, Mark, Wanted, parse_record
from mainstay.provision.traffic.route53 import Boto3Missing, Route53Zone
from mainstay.provision.traffic.zones import DnsAway, DnsRefused, NameServer, NotAsTold, Zone, ZoneMismatch
from support.name_server import KEY_NAME, OTHER_ZONE, POLICY_ZONE, ZONE, name_server
from support.name_server import NameServer as Bind
from support.ports import free_port
from support.route53 import Route53, route53

RECORD = parse_record(f"git.{ZONE} A 60 one=192.0.2.1")
WANTED = Wanted(values=frozenset({"192.0.2.1"}), ttl_s=60, mark=Mark(1, "one"))


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    with name_server() as server:
        yield server


@pytest.fixture(scope="module")
def amazon() -> Iterator[Route53]:
    with route53() as server:
        yield server


def sentence(zone: Zone, kind: type[MainstayError]) -> str:
    """What looking, or else updating, says."""
    with pytest.raises(kind) as said:
        zone.replace(RECORD, zone.look(RECORD), WANTED)
    text = str(said.value)
    assert "\n" not in text
    return text


def test_a_wrong_secret(bind: Bind) -> None:
    said = sentence(bind.zone_with(bind.wrong_key_file), DnsRefused)
    assert said == (
        f"the name server 127.0.0.1:{bind.port} has another secret or algorithm for the TSIG key {KEY_NAME!r}"
    )


def test_a_wrong_algorithm(bind: Bind) -> None:
    zone = bind.zone_with(bind.key_file_of(KEY_NAME, algorithm="hmac-sha512"))
    assert f"TSIG key {KEY_NAME!r}" in sentence(zone, DnsRefused)


def test_an_unknown_key(bind: Bind) -> None:
    said = sentence(bind.zone_with(bind.key_file_of("nobody")), DnsRefused)
    assert said == f"the name server 127.0.0.1:{bind.port} does not know the TSIG key 'nobody'"


def test_a_key_without_the_right(bind: Bind) -> None:
    zone = bind.zone_with(bind.key_file_of("stranger"))
    said = f"the name server 127.0.0.1:{bind.port} refuses to change git.{ZONE} with the key stranger"
    assert sentence(zone, DnsRefused) == said
    with pytest.raises(DnsRefused, match=said):
        zone.rehearse(RECORD, Found())
    assert bind.ask(RECORD.name, "A") == []


def test_a_zone_that_takes_no_updates(bind: Bind) -> None:
    zone = bind.zone_with(zone=OTHER_ZONE)
    record = parse_record(f"git.{OTHER_ZONE} A 60 one=192.0.2.1")
    with pytest.raises(DnsRefused, match=f"refuses to change git.{OTHER_ZONE}"):
        zone.rehearse(record, zone.look(record))


def test_no_more_rights_than_the_manual_gives(bind: Bind) -> None:
    zone = bind.zone_with(zone=POLICY_ZONE)
    record = parse_record(f"git.{POLICY_ZONE} A 60 one=192.0.2.1")
    zone.rehearse(record, zone.look(record))
    zone.replace(record, zone.look(record), WANTED)
    zone.rehearse(record, zone.look(record))
    assert bind.ask(record.name, "A") == ["192.0.2.1"]
    other = parse_record(f"www.{POLICY_ZONE} A 60 one=192.0.2.1")
    with pytest.raises(DnsRefused, match=f"refuses to change www.{POLICY_ZONE}"):
        zone.rehearse(other, zone.look(other))


def test_a_clock_that_is_wrong(bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    really = dns_update.dns.message.time.time
    monkeypatch.setattr(dns_update.dns.message.time, "time", lambda: really() - 3600)
    assert "the clocks of this machine and of" in sentence(bind.zone_with(), DnsRefused)


def test_a_zone_that_the_server_does_not_have(bind: Bind) -> None:
    record = parse_record("git.example.org A 60 one=192.0.2.1")
    with pytest.raises(MainstayError, match=r"refuses to tell about git\.example\.org|not authoritative"):
        bind.zone_with(zone="example.org").look(record)
    with pytest.raises(ZoneMismatch, match=f"git.example.org is not in the zone {ZONE}: see dns_zone"):
        bind.zone_with().look(record)
    below = bind.zone_with(zone=f"sub.{ZONE}")
    with pytest.raises(ZoneMismatch, match=f"does not have the zone sub.{ZONE}: see dns_zone and dns_server"):
        below.replace(parse_record(f"git.sub.{ZONE} A 60 one=192.0.2.1"), Found(), WANTED)


def test_a_cname_in_the_way(bind: Bind) -> None:
    with pytest.raises(ZoneMismatch, match=f"alias.{ZONE} is a CNAME on .* can have no A: delete it there"):
        bind.zone_with().look(parse_record(f"alias.{ZONE} A 60 one=192.0.2.1"))


def test_a_name_with_other_records_cannot_become_a_cname(bind: Bind) -> None:
    """BIND takes such an update, and leaves it undone."""
    record = parse_record(f"long.{ZONE} CNAME 60 one=ns1.{ZONE}")
    wanted = replace(WANTED, values=record.values_of("one"))
    with pytest.raises(NotAsTold, match="a name with other records cannot have a CNAME, so look for those"):
        zones.move(record, wanted, zone=bind.zone_with(), sleep=lambda _: None)
    assert bind.ask(record.name, "A") == ["192.0.2.1"]


def test_a_server_that_is_away(bind: Bind) -> None:
    zone = replace(bind.zone_with(), port=free_port())
    assert sentence(zone, DnsAway).endswith("cannot be reached: [Errno 111] Connection refused")
    nowhere = replace(bind.zone_with(), host="nowhere.invalid")
    assert sentence(nowhere, DnsAway).startswith("the name server nowhere.invalid:")


def test_a_server_that_says_nothing(bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_update, "EXCHANGE_S_MAX", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        zone = replace(bind.zone_with(), port=silent.getsockname()[1])
        assert "did not answer within" in sentence(zone, DnsAway)


def test_the_servers_that_the_world_asks(bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = bind.zone_with().name_servers()
    assert (first.name, first.problem) == (f"ns1.{ZONE}", "")
    assert first.serial is not None

    monkeypatch.setattr(asking, "EXCHANGE_S_MAX", 0.3)
    bind.add("ns1.example.test", "A", "127.0.0.9")
    try:
        (away,) = bind.zone_with().name_servers()
    finally:
        bind.add("ns1.example.test", "A", "127.0.0.1")
    assert isinstance(away, NameServer)
    assert away.serial is None
    assert away.problem.startswith("does not answer: ")


def test_a_hosted_zone_that_is_not_there(amazon: Route53) -> None:
    said = sentence(amazon.zone_with(zone_id="Z0NOTTHERE"), ZoneMismatch)
    assert said == "there is no hosted zone Z0NOTTHERE in Route 53: see dns_zone_id"


def test_a_name_of_another_hosted_zone(amazon: Route53) -> None:
    with pytest.raises(ZoneMismatch, match=f"not in the hosted zone {amazon.zone_id}, which is {ZONE}"):
        amazon.zone_with().look(parse_record("git.example.org A 60 one=192.0.2.1"))


def test_what_only_route_53_has_is_left_alone(amazon: Route53) -> None:
    values = {"TTL": 60, "ResourceRecords": [{"Value": "192.0.2.9"}]}
    amazon.upsert({"Name": f"w.{ZONE}.", "Type": "A", "SetIdentifier": "a", "Weight": 5, **values})
    with pytest.raises(ZoneMismatch, match=f"w.{ZONE} has a routing policy in Route 53"):
        amazon.zone_with().look(parse_record(f"w.{ZONE} A 60 one=192.0.2.1"))
    target = {"HostedZoneId": "Z1", "DNSName": "elb.example.org.", "EvaluateTargetHealth": False}
    amazon.upsert({"Name": f"alias.{ZONE}.", "Type": "A", "AliasTarget": target})
    with pytest.raises(ZoneMismatch, match=f"alias.{ZONE} is an alias in Route 53"):
        amazon.zone_with().look(parse_record(f"alias.{ZONE} A 60 one=192.0.2.1"))


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("AccessDenied", DnsRefused, "Route 53 does not let these credentials do that: no, you may not"),
        ("InvalidClientTokenId", DnsRefused, "Route 53 does not take the credentials (InvalidClientTokenId)"),
        ("Throttling", DnsAway, "Route 53 answers Throttling: no, you may not"),
    ],
)
def test_what_route_53_refuses(
    amazon: Route53, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[MainstayError], said: str
) -> None:
    """Moto lets everybody do everything, so its answer is put in the place of one of its own."""
    from botocore.exceptions import ClientError

    zone = amazon.zone_with()

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no, you may not"}}, "ChangeResourceRecordSets")

    monkeypatch.setattr(zone._client, "change_resource_record_sets", refuse)
    assert sentence(zone, kind) == said
    with pytest.raises(kind, match=re.escape(said)):
        zone.rehearse(RECORD, Found())


def test_no_credentials_at_all(amazon: Route53, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    zone = Route53Zone(amazon.zone_id, endpoint=amazon.endpoint)
    assert sentence(zone, DnsRefused).startswith("no credentials for Route 53: set dns_key_file, or give")


def test_what_is_slow_to_spread_is_done_all_the_same(
    amazon: Route53, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = amazon.zone_with()
    pending = {"ChangeInfo": {"Status": "PENDING"}}
    monkeypatch.setattr(zone._client, "get_change", lambda **_: pending)
    record = parse_record(f"slow.{ZONE} A 60 one=192.0.2.1")
    said = zones.move(record, WANTED, zone=zone)
    assert said.endswith("nothing -> 192.0.2.1 (the last of Amazon's name servers follow within a minute)")


def test_route_53_away(amazon: Route53, monkeypatch: pytest.MonkeyPatch) -> None:
    away = replace(amazon, endpoint=f"http://127.0.0.1:{free_port()}")
    assert sentence(away.zone_with(), DnsAway).startswith("Route 53 cannot be reached: Could not connect")


def test_boto3_is_not_there(amazon: Route53, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(Boto3Missing, match=r"needs boto3, which is not installed here: pip install 'boto3"):
        amazon.zone_with()


def test_waits_end(bind: Bind) -> None:
    """The repetitions of a move have an end, and the last reason is told."""
    pauses: list[float] = []
    zone = replace(bind.zone_with(), port=free_port())
    assert isinstance(zone, Rfc2136Zone)
    with pytest.raises(DnsAway, match="cannot be reached"):
        zones.move(RECORD, WANTED, zone=zone, sleep=pauses.append)
    assert len(pauses) == 3
    assert sum(pauses) < 6
