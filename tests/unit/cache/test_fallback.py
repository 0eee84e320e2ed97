"""The ledger of a node whose database is away."""

import contextvars
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mainstay.cache.fallback import FallbackLedger, decoded, encoded
from mainstay.cache.known import KnownFile
from mainstay.cache.outage import Outage, one_request
from mainstay.foundation.clock import ManualClock
from mainstay.git.objectnames import Oid, RefName
from mainstay.storage.database import DatabaseAway
from mainstay.storage.ledger import Pack, Ref, Repository, Snapshot

REPOSITORY = Repository(
    id=7, uid="01R", network_id=7, object_format="sha1", head=RefName(b"refs/heads/main"), version=5,
    manifest_version=2, prune_epoch=0, write_state="writable", identity={"path": "ada/engine"},
)  # fmt: skip
PACK = Pack(
    id="01P", key="k", sha256="0" * 64, size_bytes=9, objects=1, kind="receive", artefacts=("idx", "rev")
)
REFS = [
    Ref(RefName(b"refs/heads/main"), Oid("1" * 40)),
    Ref(RefName(b"refs/tags/caf\xe9"), Oid("2" * 40), Oid("1" * 40)),
]
SNAPSHOT = Snapshot(REPOSITORY, REFS, [PACK], "ab")


@dataclass
class Weather:
    """Whether the database answers, and since when it does not."""

    clock: ManualClock = field(default_factory=ManualClock)
    failed: bool = False
    ago_s: float = 0.0
    is_certain: bool = True
    asked: int = 0

    def outage(self, window_s: int = 60) -> Outage:
        return Outage(
            last_failed=lambda: self.failed,
            seen_ago_s=lambda: self.ago_s,
            window_s=window_s,
            clock=self.clock,
            is_certain=self._ask,
        )

    def _ask(self) -> bool:
        self.asked += 1
        return self.is_certain

    def storm(self, ago_s: float) -> None:
        self.failed, self.ago_s = True, ago_s


class NoDatabase:
    """Nobody may ask it."""

    dialect = "sqlite"

    def read(self) -> None:
        raise AssertionError("the database was asked")

    write = close = read


@pytest.fixture
def known(tmp_path: Path) -> Iterator[KnownFile]:
    known = KnownFile(tmp_path / "cache" / "known.db", ManualClock())
    yield known
    known.close()


def test_a_snapshot_survives_the_way_through_bytes() -> None:
    assert decoded(encoded(SNAPSHOT)) == SNAPSHOT


def test_in_an_outage_everything_comes_from_one_remembered_version(known: KnownFile) -> None:
    weather = Weather()
    weather.storm(30)
    ledger = FallbackLedger(NoDatabase(), weather.clock, known=known, outage=weather.outage())  # type: ignore[arg-type]
    known.note("repository", "7", encoded(SNAPSHOT))
    assert ledger.repository(7) == REPOSITORY
    assert ledger.refs(7) == (5, REFS)
    assert ledger.packs(7) == (5, 2, [PACK])
    assert ledger.ref_changes(7, after=3) is None


@pytest.mark.parametrize(("number", "ago_s"), [(8, 30), (7, 61)])
def test_what_was_not_noted_or_is_too_old_is_away(known: KnownFile, number: int, ago_s: float) -> None:
    weather = Weather()
    weather.storm(ago_s)
    ledger = FallbackLedger(NoDatabase(), weather.clock, known=known, outage=weather.outage())  # type: ignore[arg-type]
    known.note("repository", "7", encoded(SNAPSHOT))
    for ask in (ledger.repository, ledger.refs, ledger.packs):
        with pytest.raises(DatabaseAway):
            ask(number)


@pytest.mark.parametrize(
    ("failed", "ago_s", "is_on"),
    [(False, 0.0, False), (False, 30.0, False), (True, 1.0, False), (True, 2.5, True)],
    ids=["well", "slow to look", "one failure", "away"],
)
def test_an_outage_is_a_failure_that_lasts(failed: bool, ago_s: float, is_on: bool) -> None:
    assert Weather(failed=failed, ago_s=ago_s).outage().is_on is is_on


def test_nothing_comes_from_memory_while_somebody_reaches_the_database(known: KnownFile) -> None:
    weather = Weather(is_certain=False)
    weather.storm(30)
    ledger = FallbackLedger(NoDatabase(), weather.clock, known=known, outage=weather.outage())  # type: ignore[arg-type]
    known.note("repository", "7", encoded(SNAPSHOT))
    with pytest.raises(AssertionError, match="the database was asked"):
        ledger.refs(7)


def test_each_request_asks_once_and_no_request_relies_on_another() -> None:
    weather = Weather()
    weather.storm(30)
    outage = weather.outage()
    for request in (1, 2):
        with one_request():
            assert [outage.is_on, contextvars.copy_context().run(lambda: outage.is_on)] == [True, True]
        assert weather.asked == request
    assert [outage.is_on, outage.is_on] == [True, True]
    assert weather.asked == 4, "without a request nothing is kept"


def test_a_doubt_is_not_kept() -> None:
    weather = Weather(is_certain=False)
    weather.storm(30)
    with one_request():
        assert not weather.outage().is_on
        weather.is_certain = True
        assert weather.outage().is_on


def test_known_things_are_bounded_and_grow_old(tmp_path: Path) -> None:
    clock = ManualClock()
    known = KnownFile(tmp_path / "known.db", clock)
    known.note("a", "old", b"1")
    clock.advance(100)
    known.note("a", "new", b"2")
    known.forget_old(before_ms=clock.now_ms() - 50_000)
    assert known.find("a", "old") is None
    found = known.find("a", "new")
    assert found is not None
    assert found.value == b"2"
    clock.advance(5)
    known.mark_checked("a", "new")
    (checked,) = known.longest_unchecked("a", limit=9)
    assert checked.checked_ms - checked.noted_ms == 5_000
    known.forget("a", "new")
    assert known.find("a", "new") is None
    known.close()
