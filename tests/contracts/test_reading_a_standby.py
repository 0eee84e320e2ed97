"""The database of a replica: read without a lease, never written, and as any other after a promotion.

By the ways that a node has: the pool, a line of its own, and what keeps the role in sight.
"""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from mainstay.cluster.epochs.own import look_at
from mainstay.cluster.epochs.raising import found_site, raise_epoch
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.line import open_line
from mainstay.cluster.nodes import list_nodes
from mainstay.cluster.replay import measure_of
from mainstay.cluster.station import Station
from mainstay.foundation.clock import SYSTEM, ManualClock
from mainstay.storage.database import DatabaseAway
from mainstay.storage.database.fence import SiteFence, SiteFenced
from mainstay.storage.database.postgresql import PostgresqlDatabase
from mainstay.storage.objects.memory import MemoryStore
from support.databases import migrate
from support.postgres_pair import Pair
from support.servers import wait_until

pytestmark = pytest.mark.xdist_group("postgres-pair")

_S_MAX = 60


class Sites:
    """`paris` has the primary, `berlin` follows it."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        self.pair = pair
        self.name = f"test_{uuid4().hex[:12]}"
        pair.primary.do(f'CREATE DATABASE "{self.name}"')
        (directory / "run").mkdir()
        migrate(directory, pair.primary.url(self.name))
        self.paris, self.berlin = (self._site(directory / each) for each in ("paris", "berlin"))
        self.objects = MemoryStore()
        unfenced = PostgresqlDatabase(pair.primary.url(self.name))
        clock = ManualClock()
        reign = found_site(
            self.paris, unfenced, self.objects, name="paris", url="https://paris.example", clock=clock
        )
        unfenced.close()
        self.berlin.ensure()
        self.berlin.record(reign.claim, is_replica=True)
        self.url = pair.standby.url(self.name)
        self.fence = SiteFence(self.berlin.data, look_s=0)
        self.database = PostgresqlDatabase(self.url, fence=self.fence)

    @staticmethod
    def _site(data: Path) -> SiteFile:
        data.mkdir()
        return SiteFile(data)

    def write(self, value: str) -> None:
        """On the primary."""
        database = PostgresqlDatabase(self.pair.primary.url(self.name))
        with database.write() as tx:
            tx.execute("UPDATE cluster_epoch SET site_name = ?", (value,))
        database.close()

    def read(self) -> str:
        """On the replica."""
        with self.database.read() as tx:
            row = tx.row("SELECT site_name FROM cluster_epoch")
        return "" if row is None else str(row[0])

    def promote(self) -> None:
        self.pair.promote()
        unfenced = PostgresqlDatabase(self.url)
        raise_epoch(
            self.berlin,
            unfenced,
            self.objects,
            name="berlin",
            url="https://berlin.example",
            clock=ManualClock(),
        )
        unfenced.close()


@pytest.fixture
def sites(pair: Pair, tmp_path: Path) -> Iterator[Sites]:
    made = Sites(pair, tmp_path)
    yield made
    made.database.close()


def station_of(sites: Sites) -> Station:
    return Station(
        sites.berlin, own=lambda: look_at(sites.url), measure=lambda: measure_of(sites.url), clock=SYSTEM
    )


def test_a_replica_reads_what_has_come_and_writes_nothing(sites: Sites) -> None:
    wait_until(lambda: sites.read() == "paris", timeout_s=_S_MAX, what="the row to come")
    sites.write("paris-1")
    wait_until(lambda: sites.read() == "paris-1", timeout_s=_S_MAX, what="the change to come")
    refused = pytest.raises(SiteFenced, match=r"this site is a replica of paris: push to https://paris")
    with refused, sites.database.write():
        pytest.fail("nothing begins")
    line = open_line(sites.url, limit_s=5, may_follow=sites.fence.follows)
    assert list_nodes(line).nodes == []
    line.close()


def test_a_standby_is_not_read_where_the_site_is_no_replica(sites: Sites) -> None:
    sites.berlin.record(sites.berlin.read().own, is_replica=False)  # type: ignore[union-attr]
    with pytest.raises(DatabaseAway), sites.database.read():
        pytest.fail("a standby may be behind")
    line = open_line(sites.url, limit_s=5, may_follow=sites.fence.follows)
    with pytest.raises(DatabaseAway):
        list_nodes(line)
    line.close()


def test_a_promotion_and_its_opposite_are_seen_without_a_restart(sites: Sites) -> None:
    station = station_of(sites)
    wait_until(lambda: station.turn().role == "replica", timeout_s=_S_MAX, what="a replica")
    wait_until(
        lambda: (lag := station.turn().lag) is not None and lag.seconds == 0, timeout_s=_S_MAX, what="no lag"
    )
    assert (station.now.is_passive, station.now.primary.url) == (True, "https://paris.example")
    assert sites.read() == "paris"

    sites.promote()
    assert station.turn().role == "primary"
    with sites.database.write() as tx:
        tx.execute("UPDATE cluster_epoch SET site_name = ?", ("berlin-1",))
    assert sites.read() == "berlin-1"

    sites.pair.restore()
    station.stop()
