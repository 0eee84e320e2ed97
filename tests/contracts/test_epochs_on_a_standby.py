"""Epochs on a real standby: what a look finds there, and a promotion from the row to the fence."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from mainstay.cluster.epochs.own import Look, OwnDatabase, look_at
from mainstay.cluster.epochs.raising import found_site, raise_epoch
from mainstay.cluster.epochs.role import decide_role
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.epochs.table import NOBODYS
from mainstay.foundation.clock import ManualClock
from mainstay.storage.database.fence import SiteFence, SiteFenced
from mainstay.storage.database.postgresql import PostgresqlDatabase
from mainstay.storage.objects.memory import MemoryStore
from support.databases import migrate
from support.postgres_pair import Pair
from support.servers import wait_until

pytestmark = pytest.mark.xdist_group("postgres-pair")


def until(look: Look, found: Callable[[OwnDatabase], bool]) -> OwnDatabase:
    """What a look finds, once it is that."""
    latest: list[OwnDatabase] = []

    def is_found() -> bool:
        seen = look()
        if seen is not None:
            latest.append(seen)
        return seen is not None and found(seen)

    wait_until(is_found, timeout_s=60, what="what the look is to find")
    return latest[-1]


def test_a_replica_is_promoted_and_the_old_primary_is_fenced(pair: Pair, tmp_path: Path) -> None:
    name = f"test_{uuid4().hex[:12]}"
    pair.primary.do(f'CREATE DATABASE "{name}"')
    (tmp_path / "run").mkdir()
    migrate(tmp_path, pair.primary.url(name))
    for site in ("paris", "berlin"):
        (tmp_path / site).mkdir()
    paris, berlin = SiteFile(tmp_path / "paris"), SiteFile(tmp_path / "berlin")
    clock, objects = ManualClock(), MemoryStore()
    first = PostgresqlDatabase(pair.primary.url(name))
    founded = found_site(paris, first, objects, name="paris", url="https://paris.example", clock=clock)
    me = berlin.ensure().site_id

    old, new = look_at(pair.primary.url(name)), look_at(pair.standby.url(name))
    assert old() == OwnDatabase(founded, in_recovery=False)
    seen = until(new, lambda seen: seen.reign != NOBODYS)
    assert seen == OwnDatabase(founded, in_recovery=True)
    standing = berlin.record(seen.reign.claim, is_replica=seen.in_recovery)
    role = decide_role(site_id=me, in_recovery=True, own=standing.own, highest=standing.highest)
    assert (role.role, "paris" in role.reason) == ("replica", True)
    assert "this site is a replica of paris" in str(SiteFence(tmp_path / "berlin").refusal())

    pair.promote()
    seen = until(new, lambda seen: not seen.in_recovery)
    standing = berlin.record(seen.reign.claim, is_replica=False)
    role = decide_role(site_id=me, in_recovery=False, own=standing.own, highest=standing.highest)
    assert role.role == "superseded", "promoted, and not by us: it takes nothing yet"
    fence = SiteFence(tmp_path / "berlin", look_s=0)
    second = PostgresqlDatabase(pair.primary.url(name), fence=fence)
    with pytest.raises(SiteFenced, match="was not promoted by"), second.write():
        pytest.fail("nothing begins")
    unfenced = PostgresqlDatabase(pair.primary.url(name))
    raised = raise_epoch(
        berlin,
        unfenced,
        objects,
        name="berlin",
        url="https://berlin.example",
        clock=clock,
    )
    assert raised.epoch == 2
    with second.write() as tx:
        assert tx.row("SELECT epoch FROM cluster_epoch") == (2,)
    assert until(new, lambda seen: seen.reign.epoch == 2) == OwnDatabase(raised, in_recovery=False)

    assert old() == OwnDatabase(founded, in_recovery=False), "the old one knows nothing of it"
    paris.learn(raised.claim)
    assert SiteFence(tmp_path / "paris").refusal() == (
        "this site was superseded by berlin at epoch 2: push to https://berlin.example"
    )
    for each in (first, second, unfenced, old, new):
        each.close()
