"""The epoch in the database, in the object store and in `DATA/site.json`, and how it is raised."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.cluster.epochs import Superseded
from mainstay.cluster.epochs.markers import following, highest_marker, marker, put_marker
from mainstay.cluster.epochs.own import OwnDatabase, look_at
from mainstay.cluster.epochs.raising import MARKED, WITNESSED, WRITTEN, found_site, raise_epoch
from mainstay.cluster.epochs.site import SiteFile, SiteUnreadable
from mainstay.cluster.epochs.table import NOBODYS, epoch_of, write_epoch
from mainstay.foundation import failpoints
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.failpoints import FailpointError
from mainstay.foundation.ids import new_ulid
from mainstay.storage.database import Database
from mainstay.storage.database.fence import SITE_FILE, Claim, SiteFence
from mainstay.storage.database.postgresql import PostgresqlDatabase
from mainstay.storage.objects.memory import MemoryStore

PARIS = Claim(1, new_ulid(), "paris", "https://paris.example")
BERLIN = Claim(2, new_ulid(), "berlin", "https://berlin.example")


class Site:
    """One site with a database, before its processes start."""

    def __init__(self, data: Path, database: Database, objects: MemoryStore, name: str) -> None:
        data.mkdir(exist_ok=True)
        self.file = SiteFile(data)
        self.database = database
        self.objects = objects
        self.name = name

    def promote(self, **more: object) -> int:
        url = f"https://{self.name}.example"
        made = raise_epoch(
            self.file,
            self.database,
            self.objects,
            name=self.name,
            url=url,
            clock=ManualClock(),
            **more,  # type: ignore[arg-type]
        )
        return made.epoch


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


@pytest.fixture
def objects() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def site(tmp_path: Path, database: Database, objects: MemoryStore) -> Site:
    return Site(tmp_path / "paris", database, objects, "paris")


class TestTable:
    def test_it_rises_and_says_whose_it_is(self, database: Database) -> None:
        assert epoch_of(database) == NOBODYS
        assert write_epoch(database, PARIS, since_ms=7).since_ms == 7
        assert write_epoch(database, PARIS, since_ms=8).since_ms == 7, "the same once more changes nothing"
        assert write_epoch(database, BERLIN, since_ms=9).claim == BERLIN
        assert epoch_of(database).claim == BERLIN

    def test_it_never_falls_and_never_changes_hands_without_rising(self, database: Database) -> None:
        write_epoch(database, BERLIN, since_ms=7)
        with pytest.raises(Superseded, match="berlin"):
            write_epoch(database, PARIS, since_ms=8)
        with pytest.raises(Superseded, match="epoch 2"):
            write_epoch(database, replace(PARIS, epoch=2), since_ms=8)
        assert epoch_of(database).claim == BERLIN

    def test_a_look_says_what_the_database_is(self, database: Database) -> None:
        url = database.url if isinstance(database, PostgresqlDatabase) else f"sqlite://{database.path}"  # type: ignore[attr-defined]
        if url.endswith(":memory:"):
            return  # another connection would see another database
        look = look_at(url)
        assert look() == OwnDatabase(NOBODYS, in_recovery=False)
        reign = write_epoch(database, PARIS, since_ms=7)
        assert look() == OwnDatabase(reign, in_recovery=False)
        look.close()

    def test_a_look_at_what_is_not_there_finds_nothing(self, tmp_path: Path) -> None:
        for url in ("postgresql://127.0.0.1:1/none", f"sqlite://{tmp_path}/no/such/directory.db"):
            look = look_at(url)
            assert look() is None
            look.close()


class TestMarkers:
    def test_a_number_is_taken_once(self, objects: MemoryStore) -> None:
        put_marker(objects, PARIS, since_ms=1)
        put_marker(objects, PARIS, since_ms=2)
        with pytest.raises(Superseded, match="'paris' took it"):
            put_marker(objects, replace(BERLIN, epoch=1), since_ms=3)
        assert marker(objects, 1) == PARIS
        assert marker(objects, 2) is None

    def test_the_highest_is_found_behind_gaps_by_a_listing_and_step_by_step_without(
        self, objects: MemoryStore
    ) -> None:
        assert highest_marker(objects) is None
        for epoch in (1, 2, 3, 11):
            put_marker(objects, replace(PARIS, epoch=epoch), since_ms=1)
        assert following(objects, 1) == replace(PARIS, epoch=3)
        assert following(objects, 3) is None
        assert highest_marker(objects) == replace(PARIS, epoch=11)


class TestSiteFile:
    def test_it_is_made_once_for_the_owner_only(self, tmp_path: Path) -> None:
        file = SiteFile(tmp_path)
        assert file.read() is None
        made = file.ensure()
        assert file.ensure() == made == file.read()
        assert stat.S_IMODE((tmp_path / SITE_FILE).stat().st_mode) == 0o600

    def test_the_highest_never_falls(self, tmp_path: Path) -> None:
        file = SiteFile(tmp_path)
        file.ensure(PARIS.site_id)
        file.record(PARIS, is_replica=False)
        assert file.learn(BERLIN).highest == BERLIN
        assert file.learn(PARIS).highest == BERLIN
        assert file.record(PARIS, is_replica=False).highest == BERLIN
        assert file.record(BERLIN, is_replica=True).own == BERLIN

    def test_of_two_with_one_number_the_other_site_is_remembered(self, tmp_path: Path) -> None:
        file = SiteFile(tmp_path)
        file.ensure(PARIS.site_id)
        mine, theirs = replace(PARIS, epoch=3), replace(BERLIN, epoch=3)
        file.record(mine, is_replica=False)
        assert file.learn(theirs).highest == theirs
        assert file.record(mine, is_replica=False).highest == theirs

    def test_nothing_is_written_over_what_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / SITE_FILE).write_text("{")
        with pytest.raises(SiteUnreadable):
            SiteFile(tmp_path).learn(BERLIN)
        with pytest.raises(SiteUnreadable):
            SiteFile(tmp_path).ensure()
        assert (tmp_path / SITE_FILE).read_text() == "{"

    def test_who_belongs_to_no_site_learns_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(SiteUnreadable, match="no site"):
            SiteFile(tmp_path).learn(BERLIN)


class TestRaising:
    def test_a_site_is_founded_once_and_a_second_node_joins_it(self, site: Site, tmp_path: Path) -> None:
        first = found_site(site.file, site.database, site.objects, name="paris", url="", clock=ManualClock())
        assert first.epoch == 1
        node = Site(tmp_path / "node", site.database, site.objects, "paris")
        assert (
            found_site(node.file, site.database, site.objects, name="x", url="", clock=ManualClock()) == first
        )
        assert node.file.read() == site.file.read()
        assert SiteFence(tmp_path / "node").refusal() is None

    def test_a_promotion_takes_the_next_number_everywhere_and_fences_the_other(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.promote()
        # The replica's database has become a primary: the same rows, in the hands of another site.
        berlin = Site(tmp_path / "berlin", site.database, site.objects, "berlin")
        assert berlin.promote() == 2
        assert berlin.promote() == 2, "once more changes nothing"
        assert epoch_of(site.database).claim.name == "berlin"
        found = marker(site.objects, 2)
        assert found is not None
        site.file.learn(found)
        assert SiteFence(tmp_path / "berlin").refusal() is None
        assert SiteFence(tmp_path / "paris").refusal() == (
            "this site was superseded by berlin at epoch 2: push to https://berlin.example"
        )

    @pytest.mark.parametrize("point", [MARKED, WRITTEN])
    def test_one_that_broke_off_is_finished_with_the_same_number(
        self, site: Site, point: str, tmp_path: Path
    ) -> None:
        site.promote()
        berlin = Site(tmp_path / "berlin", site.database, site.objects, "berlin")
        failpoints.arm(f"{point}=error")
        with pytest.raises(FailpointError):
            berlin.promote()
        failpoints.arm("")
        assert berlin.promote() == 2
        assert SiteFence(tmp_path / "berlin").refusal() is None

    def test_one_that_took_a_number_and_never_came_back_costs_only_the_number(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.promote()
        berlin = Site(tmp_path / "berlin", site.database, site.objects, "berlin")
        failpoints.arm(f"{MARKED}=error")
        with pytest.raises(FailpointError):
            berlin.promote()
        failpoints.arm("")
        assert site.promote() == 3

    def test_who_comes_second_is_refused_and_his_database_left_as_it_was(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.promote()
        rome = Claim(2, new_ulid(), "rome", "")

        class LateMarker(MemoryStore):
            def list(self, prefix: str) -> Iterator[object]:  # type: ignore[override]
                put_marker(self, rome, since_ms=1)
                return iter(())

        berlin = Site(tmp_path / "berlin", site.database, LateMarker(), "berlin")
        with pytest.raises(Superseded, match="'rome' took it"):
            berlin.promote()
        assert epoch_of(site.database).claim.name == "paris"

    def test_the_witness_is_asked_first_and_may_refuse(self, site: Site) -> None:
        class Refusing:
            def last(self) -> Claim | None:
                return replace(BERLIN, epoch=7)

            def name(self, claim: Claim) -> None:
                assert claim.epoch == 8
                raise Superseded("somebody was quicker")

        with pytest.raises(Superseded, match="quicker"):
            site.promote(witness=Refusing())
        assert highest_marker(site.objects) is None
        assert WITNESSED.startswith("epochs.")

    def test_after_a_tie_a_further_number_decides(self, site: Site, tmp_path: Path) -> None:
        site.promote()
        site.file.learn(replace(BERLIN, epoch=1))
        fence = SiteFence(tmp_path / "paris", look_s=0)
        assert "as well" in str(fence.refusal())
        assert site.promote() == 2
        assert fence.refusal() is None
        assert site.promote(again=True) == 3
