"""What a site takes itself for, while its database and `site.json` change under it."""

from pathlib import Path

from mainstay.cluster.epochs.own import Look, OwnDatabase
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.epochs.table import Reign
from mainstay.cluster.station import ALONE, Measure, Progress, Station
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Unavailable
from mainstay.storage.database.fence import Claim

PARIS = Claim(1, "01PARIS", "paris", "https://paris.example")


class Database:
    """Both questions of a station, answered as the test says."""

    def __init__(self) -> None:
        self.found: OwnDatabase | None = OwnDatabase(Reign(PARIS), in_recovery=True)
        self.progress: Progress | None = Progress(is_connected=True, pending_bytes=0, commit_age_s=0.1)
        self.opened = 0

    def own(self) -> Look:
        self.opened += 1
        database = self

        class Asked:
            def __call__(self) -> OwnDatabase | None:
                return database.found

            def close(self) -> None:
                database.opened -= 1

        return Asked()

    def measure(self) -> Measure:
        self.opened += 1
        database = self

        class Asked:
            def __call__(self) -> Progress | None:
                if database.progress is None:
                    raise Unavailable("no answer")
                return database.progress

            def close(self) -> None:
                database.opened -= 1

        return Asked()


def station_at(data: Path, database: Database, clock: ManualClock) -> Station:
    return Station(SiteFile(data), own=database.own, measure=database.measure, clock=clock)


def test_without_sites_nobody_is_asked(tmp_path: Path) -> None:
    database = Database()
    station = station_at(tmp_path, database, ManualClock())
    assert station.turn() == ALONE
    assert (database.opened, station.now.is_passive) == (0, False)


def test_a_replica_measures_its_lag_and_a_promotion_ends_it(tmp_path: Path) -> None:
    database, clock = Database(), ManualClock()
    station = station_at(tmp_path, database, clock)
    me = SiteFile(tmp_path).ensure().site_id
    sight = station.turn()
    assert (sight.role, sight.is_passive, sight.primary) == ("replica", True, PARIS)
    assert sight.lag is not None
    assert sight.lag.seconds == 0.0

    clock.advance(7)
    database.progress = Progress(is_connected=False, pending_bytes=0, commit_age_s=30.0)
    lag = station.turn().lag
    assert lag is not None
    assert lag.seconds == 7.0

    ours = Claim(2, me, "berlin", "https://berlin.example")
    database.found = OwnDatabase(Reign(ours), in_recovery=False)
    sight = station.turn()
    assert (sight.role, sight.lag, sight.primary) == ("primary", None, ours)
    station.stop()
    assert database.opened == 0


def test_a_database_that_is_away_changes_no_role(tmp_path: Path) -> None:
    database, clock = Database(), ManualClock()
    station = station_at(tmp_path, database, clock)
    site = SiteFile(tmp_path)
    site.ensure()
    site.record(PARIS, is_replica=True)
    database.found = database.progress = None
    sight = station.turn()
    assert (sight.role, sight.lag is not None and sight.lag.seconds) == ("replica", None)
    database.found = OwnDatabase(Reign(PARIS), in_recovery=True)
    assert station.turn().role == "replica"
    database.found = None
    assert station.turn().role == "replica"


def test_a_superseded_primary_knows_where_the_new_one_is(tmp_path: Path) -> None:
    database = Database()
    station = station_at(tmp_path, database, ManualClock())
    site = SiteFile(tmp_path)
    mine = Claim(1, site.ensure().site_id, "paris", "https://paris.example")
    database.found = OwnDatabase(Reign(mine), in_recovery=False)
    assert station.turn().role == "primary"
    site.learn(Claim(2, "01BERLIN", "berlin", "https://berlin.example"))
    sight = station.turn()
    assert (sight.role, sight.primary.url) == ("superseded", "https://berlin.example")
