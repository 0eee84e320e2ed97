"""Who is told what by the webhook of a cache, and when."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Unavailable
from mainstay.git.objectnames import ZERO_OID, oid, ref_name
from mainstay.ops.sites.cache_sync import (
    ARRIVAL_S_MAX,
    FRESH_S_MAX,
    WAITING_MAX,
    CacheSync,
    NotTold,
    Presence,
    said_of,
)
from mainstay.storage.journal import commit_key
from mainstay.storage.ledger import Change, RefChange
from mainstay.storage.objects import NoSuchObject
from mainstay.storage.records import encode_change

UID = "01K0000000000000000000000A"
OID = oid("1" * 40)
NOW_MS = 1_800_000_000_000


def push(version: int, *, at_ms: int = NOW_MS) -> Change:
    return Change(
        repository_id=7,
        uid=UID,
        version=version,
        kind="push",
        push_id=f"push-{version}",
        actor="user:3",
        at_ms=at_ms,
        refs=[RefChange(ref_name("refs/heads/main"), ZERO_OID, OID)],
        packs_added=[],
        packs_removed=[],
        head=None,
        identity=None,
        details={},
        hash="a" * 64,
        previous_hash="b" * 64,
    )


@dataclass
class Cache:
    """As told by the test."""

    presence: Presence = "here"
    objects: dict[str, bytes] = field(default_factory=dict)
    is_away: bool = False

    def read(self, key: str) -> bytes:
        if key not in self.objects:
            raise NoSuchObject(key)
        return self.objects[key]

    def presence_of(self, change: Change) -> Presence:
        if self.is_away:
            raise Unavailable("the database is away")
        return self.presence if change.version else "not kept"

    def project_of(self, change: Change) -> str:
        return f"tools/engine-{change.repository_id}"


@dataclass
class Room:
    cache: Cache
    clock: ManualClock
    told: list[dict[str, object]]
    sync: CacheSync
    failures: list[int]

    def land(self, changes: Sequence[Change]) -> None:
        for change in changes:
            key = commit_key(change.uid, change.version)
            self.cache.objects[key] = encode_change(change)
            self.sync.landed(key)

    def versions(self) -> list[object]:
        return [each["push_id"] for each in self.told]


@pytest.fixture
def room() -> Room:
    told: list[dict[str, object]] = []
    failures = [0]

    def post(body: bytes) -> None:
        if failures[0]:
            failures[0] -= 1
            raise NotTold("500")
        told.append(json.loads(body))

    cache, clock = Cache(), ManualClock(now_ms=NOW_MS)
    return Room(cache, clock, told, CacheSync(cache, location="oslo", post=post, clock=clock), failures)


def test_a_push_that_is_here_is_told_once(room: Room) -> None:
    room.land([push(3)])
    room.sync.turn()
    room.sync.turn()
    assert room.told == [said_of(push(3), project="tools/engine-7", location="oslo")]
    assert room.told[0]["changes"] == [{"before": ZERO_OID, "after": OID, "ref": "refs/heads/main"}]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: push(3, at_ms=NOW_MS - FRESH_S_MAX * 1000 - 1), id="old"),
        pytest.param(lambda: replace(push(3), kind="create"), id="no push"),
        pytest.param(lambda: replace(push(3), refs=[]), id="nothing moved"),
    ],
)
def test_what_nobody_waits_for_is_not_told(room: Room, make: Callable[[], Change]) -> None:
    room.land([make()])
    room.sync.turn()
    assert room.told == []


def test_what_the_cache_does_not_keep_is_not_told(room: Room) -> None:
    room.cache.presence = "not kept"
    room.land([push(3)])
    room.sync.turn()
    room.cache.presence = "here"
    room.sync.turn()
    assert room.told == []


def test_packs_and_rows_that_come_later_are_waited_for_but_not_for_ever(room: Room) -> None:
    room.cache.presence = "coming"
    room.land([push(3), push(4)])
    room.sync.turn()
    assert room.told == []
    room.cache.presence, room.cache.is_away = "here", True
    room.sync.turn()
    room.cache.is_away = False
    room.sync.turn()
    assert room.versions() == ["push-3", "push-4"]

    room.cache.presence = "coming"
    room.land([push(5)])
    room.clock.advance(ARRIVAL_S_MAX + 1)
    room.sync.turn()
    room.cache.presence = "here"
    room.sync.turn()
    assert room.versions() == ["push-3", "push-4"]


def test_other_objects_and_broken_records_are_none_of_its_business(room: Room) -> None:
    room.sync.landed(f"repositories/{UID}/packs/one.pack")
    room.sync.landed(f"journal/{UID}/prepared/one.json")
    key = commit_key(UID, 9)
    room.cache.objects[key] = b"{"
    room.sync.landed(key)
    room.land([push(3)])
    room.sync.turn()
    assert room.versions() == ["push-3"]


def test_there_is_a_bound_to_what_waits(room: Room) -> None:
    room.cache.presence = "coming"
    room.land([push(version) for version in range(1, WAITING_MAX + 10)])
    room.cache.presence = "here"
    room.sync.turn()
    assert len(room.told) == WAITING_MAX


def test_a_url_that_fails_is_tried_again_a_few_times(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.sync, "_sleep", lambda _pause_s: None)
    room.failures[0] = 2
    room.land([push(3)])
    room.sync.turn()
    assert room.versions() == ["push-3"]
    room.failures[0] = 4
    room.land([push(4)])
    room.sync.turn()
    room.land([push(5)])
    room.sync.turn()
    assert room.versions() == ["push-3", "push-5"]
