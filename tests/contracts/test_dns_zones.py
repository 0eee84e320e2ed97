"""Records that follow the primary: the same promises before a real BIND and an emulated Route 53."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mainstay.foundation.retry import Schedule
from mainstay.provision.traffic.records import Found, Mark, MovedSince, Wanted, parse_record
from mainstay.provision.traffic.zones import ChangedMeanwhile, NotAsTold, Zone, ZoneMismatch, move
from support.name_server import name_server
from support.route53 import route53

ZONE = "example.test"
_FEW = Schedule(attempts_max=3, first_pause_s=0.01, pause_max_s=0.01)


@dataclass(frozen=True)
class Kept:
    """A zone, and the server below it as others see it."""

    zone: Zone
    server: Any

    def values(self, name: str, kind: str = "A") -> list[str]:
        return [each.rstrip(".") for each in self.server.ask(name, kind)]

    def mark(self, name: str) -> list[str]:
        return [each.strip('"') for each in self.server.ask(f"_mainstay-epoch.{name}", "TXT")]


@pytest.fixture(scope="module", params=["bind", "route53"])
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    with (name_server if request.param == "bind" else route53)() as server:
        yield Kept(server.zone_with(), server)


def wanted(record: str, site: str, epoch: int) -> Wanted:
    parsed = parse_record(record)
    return Wanted(values=parsed.values_of(site), ttl_s=parsed.ttl_s, mark=Mark(epoch, site))


def moved(kept: Kept, record: str, site: str, epoch: int, **more: Any) -> str:
    return move(
        parse_record(record),
        wanted(record, site, epoch),
        zone=kept.zone,
        schedule=_FEW,
        sleep=lambda _: None,
        **more,
    )


@pytest.mark.parametrize(
    ("record", "first", "then"),
    [
        (f"a.{ZONE} A 60 one=192.0.2.1 two=192.0.2.2+192.0.2.3", ["192.0.2.1"], ["192.0.2.2", "192.0.2.3"]),
        (f"six.{ZONE} AAAA 120 one=2001:db8::1 two=2001:DB8:0::2", ["2001:db8::1"], ["2001:db8::2"]),
        (
            f"c.{ZONE} CNAME 60 one=one.{ZONE} two=two.elsewhere.test.",
            [f"one.{ZONE}"],
            ["two.elsewhere.test"],
        ),
        (f"*.pages.{ZONE} A 60 one=192.0.2.1 two=192.0.2.2", ["192.0.2.1"], ["192.0.2.2"]),
    ],
)
def test_a_name_is_made_and_moved(kept: Kept, record: str, first: list[str], then: list[str]) -> None:
    name, kind = record.split()[:2]
    assert moved(kept, record, "one", 1) == f"{name} {kind}: nothing -> {', '.join(first)}"
    assert kept.values(name, kind) == first
    assert kept.mark(name) == ["mainstay epoch=1 site=one"]

    moved(kept, record, "two", 2)
    assert kept.values(name, kind) == then
    assert kept.mark(name) == ["mainstay epoch=2 site=two"]
    found = kept.zone.look(parse_record(record))
    assert (found.ttl_s, found.mark_ttl_s) == (int(record.split()[2]), int(record.split()[2]))
    assert "already" in moved(kept, record, "two", 2)


def test_a_name_that_others_made_is_taken_over_with_its_ttl(kept: Kept) -> None:
    record = f"taken.{ZONE} A 60 one=192.0.2.1 two=192.0.2.2"
    kept.server.add(f"taken.{ZONE}", "A", "203.0.113.9", ttl_s=3600)
    assert kept.zone.look(parse_record(record)).ttl_s == 3600
    assert "203.0.113.9 -> 192.0.2.2" in moved(kept, record, "two", 5)
    assert kept.values(f"taken.{ZONE}") == ["192.0.2.2"]
    assert kept.zone.look(parse_record(record)).ttl_s == 60


def test_an_earlier_epoch_cannot_take_a_name_back(kept: Kept) -> None:
    record = f"epoch.{ZONE} A 60 one=192.0.2.1 two=192.0.2.2"
    moved(kept, record, "two", 7)
    with pytest.raises(MovedSince, match="moved to the site 'two' in epoch 7, ours is 6: it is left alone"):
        moved(kept, record, "one", 6)
    with pytest.raises(MovedSince, match="in epoch 7, ours is 6"):
        moved(kept, record, "one", 6, by_hand=True)
    with pytest.raises(MovedSince, match="in this same epoch 7"):
        moved(kept, record, "one", 7)
    assert kept.values(f"epoch.{ZONE}") == ["192.0.2.2"]
    assert kept.mark(f"epoch.{ZONE}") == ["mainstay epoch=7 site=two"]

    moved(kept, record, "one", 7, by_hand=True)
    assert kept.values(f"epoch.{ZONE}") == ["192.0.2.1"]


def test_of_two_sites_that_update_at_once_one_is_too_late(kept: Kept) -> None:
    """Both have looked before either updates; the one that comes second changes nothing."""
    record = parse_record(f"race.{ZONE} A 60 one=192.0.2.1 two=192.0.2.2")
    text = str(record)
    moved(kept, text, "one", 1)
    found = kept.zone.look(record)
    kept.zone.replace(record, found, wanted(text, "two", 3))
    with pytest.raises(ChangedMeanwhile, match=f"race.{ZONE} was changed by somebody else just now"):
        kept.zone.replace(record, found, wanted(text, "one", 2))
    assert kept.values(record.name) == ["192.0.2.2"]
    assert kept.mark(record.name) == ["mainstay epoch=3 site=two"]


def test_two_sites_that_both_make_a_name_do_not_both_succeed(kept: Kept) -> None:
    record = parse_record(f"fresh.{ZONE} A 60 one=192.0.2.1 two=192.0.2.2")
    kept.zone.replace(record, Found(), wanted(str(record), "one", 1))
    with pytest.raises(ChangedMeanwhile):
        kept.zone.replace(record, Found(), wanted(str(record), "two", 1))
    assert kept.values(record.name) == ["192.0.2.1"]


def test_a_change_by_hand_in_between_is_seen_and_not_overwritten_blindly(kept: Kept) -> None:
    record = parse_record(f"hand.{ZONE} A 60 one=192.0.2.1 two=192.0.2.2")
    moved(kept, str(record), "one", 1)
    found = kept.zone.look(record)
    kept.server.add(record.name, "A", "203.0.113.7")
    with pytest.raises(ChangedMeanwhile):
        kept.zone.replace(record, found, wanted(str(record), "two", 2))
    assert kept.values(record.name) == ["203.0.113.7"]
    assert "203.0.113.7 -> 192.0.2.2" in moved(kept, str(record), "two", 2)


def test_a_rehearsal_changes_nothing(kept: Kept) -> None:
    for text in (f"try.{ZONE} A 60 one=192.0.2.1", f"tryc.{ZONE} CNAME 60 one=one.{ZONE}"):
        record = parse_record(text)
        kept.zone.rehearse(record, kept.zone.look(record))
        assert kept.values(record.name, record.type) == []
        moved(kept, text, "one", 4)
        before = kept.zone.look(record)
        kept.zone.rehearse(record, before)
        assert kept.zone.look(record) == before


def test_a_strange_text_beside_a_name_is_not_overwritten(kept: Kept) -> None:
    kept.server.add(f"_mainstay-epoch.odd.{ZONE}", "TXT", '"something else"')
    with pytest.raises(
        Exception, match="says 'something else', which is not a mark of ours: delete that TXT"
    ):
        moved(kept, f"odd.{ZONE} A 60 one=192.0.2.1", "one", 1)
    assert kept.values(f"odd.{ZONE}") == []


def test_a_name_outside_the_zone_is_refused(kept: Kept) -> None:
    with pytest.raises(ZoneMismatch):
        moved(kept, "git.example.org A 60 one=192.0.2.1", "one", 1)


class Deaf:
    """Takes every update and does nothing."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self.updates = 0

    def look(self, record: Any) -> Found:
        return self._zone.look(record)

    def replace(self, *_: Any) -> str:
        self.updates += 1
        return ""


def test_an_update_that_is_not_to_be_seen_afterwards_is_no_success(kept: Kept) -> None:
    deaf = Deaf(kept.zone)
    with pytest.raises(NotAsTold, match="took the update, and still answers nothing instead of"):
        moved(Kept(deaf, kept.server), f"deaf.{ZONE} A 60 one=192.0.2.1", "one", 1)  # type: ignore[arg-type]  # half a zone
    assert deaf.updates == 3
