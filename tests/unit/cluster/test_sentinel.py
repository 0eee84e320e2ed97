"""What a site learns of other sites, and what it then is."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.cluster.epochs.markers import put_marker
from mainstay.cluster.epochs.own import OwnDatabase
from mainstay.cluster.epochs.role import decide_role
from mainstay.cluster.epochs.sentinel import MarkerSource, Peer, Sentinel
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.epochs.table import Reign
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage.database.fence import Claim, SiteFence, Standing
from mainstay.storage.objects.memory import MemoryStore
from support.servers import wait_until

PARIS = Claim(3, new_ulid(), "paris", "https://paris.example")
BERLIN = Claim(4, new_ulid(), "berlin", "https://berlin.example")


class Neighbour:
    """Another site: says something, nothing, or hangs."""

    name = "berlin"

    def __init__(self, says: Claim | None = None) -> None:
        self.says = says
        self.is_away = False
        self.hangs = threading.Event()
        self.hangs.set()

    def epoch(self) -> Claim | None:
        self.hangs.wait(20)
        if self.is_away:
            raise Unavailable("cut off")
        return self.says


class Own:
    found: OwnDatabase | None = OwnDatabase(Reign(PARIS), in_recovery=False)
    is_closed = False

    def __call__(self) -> OwnDatabase | None:
        return self.found

    def close(self) -> None:
        self.is_closed = True


class Scene:
    def __init__(self, data: Path) -> None:
        self.site = SiteFile(data)
        self.fence = SiteFence(data, look_s=0)
        self.objects = MemoryStore()
        self.own = Own()
        self.neighbour = Neighbour()
        self.heard: list[Standing] = []
        self.sentinel = Sentinel(
            self.site,
            own=self.own,
            peers=self.peers,
            sources={"markers": MarkerSource(self.objects, self.site)},
            changed=self.heard.append,
            every_s=0.02,
        )

    def peers(self) -> Sequence[Peer]:
        return [self.neighbour]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    scene.site.ensure(PARIS.site_id)
    return scene


class TestSentinel:
    def test_where_there_are_no_sites_nobody_is_asked(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path)
        assert scene.sentinel.ask_once() is None
        assert scene.heard == []
        scene.sentinel.close()
        assert scene.own.is_closed

    def test_an_old_primary_learns_before_it_writes(self, scene: Scene) -> None:
        scene.neighbour.says = BERLIN
        standing = scene.sentinel.ask_once(limit_s=20)
        assert standing is not None
        assert (standing.own, standing.highest) == (PARIS, BERLIN)
        assert "superseded by berlin" in str(scene.fence.refusal())
        scene.sentinel.close()

    def test_a_source_that_hangs_keeps_nobody_from_being_heard(self, scene: Scene) -> None:
        scene.neighbour.hangs.clear()
        put_marker(scene.objects, BERLIN, since_ms=1)
        standing = scene.sentinel.ask_once(limit_s=0.5)
        assert standing is not None
        assert standing.highest == BERLIN
        scene.neighbour.hangs.set()
        scene.sentinel.close()

    def test_it_goes_on_asking_and_hears_of_its_own_promotion(self, scene: Scene) -> None:
        scene.neighbour.is_away = True
        scene.sentinel.start()
        wait_until(lambda: scene.heard != [], timeout_s=20, what="the first look")
        scene.neighbour.is_away, scene.neighbour.says = False, BERLIN
        wait_until(lambda: scene.fence.refusal() is not None, timeout_s=20, what="the fence")
        mine = replace(PARIS, epoch=5)
        scene.own.found = OwnDatabase(Reign(mine), in_recovery=False)
        wait_until(lambda: scene.fence.refusal() is None, timeout_s=20, what="the end of the fence")
        scene.own.found = None
        put_marker(scene.objects, replace(BERLIN, epoch=6), since_ms=1)
        wait_until(lambda: scene.fence.refusal() is not None, timeout_s=20, what="the fence again")
        scene.sentinel.close()
        assert scene.heard[-1].own == mine, "a database that is away changes nothing"


class TestRole:
    def test_a_server_in_recovery_makes_a_replica(self) -> None:
        role = decide_role(site_id=PARIS.site_id, in_recovery=True, own=BERLIN, highest=BERLIN)
        assert (role.role, role.reason) == ("replica", "its database follows that of berlin, at epoch 4")
        first = decide_role(site_id=PARIS.site_id, in_recovery=True, own=Claim(), highest=Claim())
        assert first.role == "replica"

    def test_the_highest_epoch_makes_a_primary(self) -> None:
        role = decide_role(site_id=PARIS.site_id, in_recovery=False, own=PARIS, highest=PARIS)
        assert (role.role, role.reason) == (
            "primary",
            "its database takes writes under epoch 3, the highest one known",
        )
        alone = decide_role(site_id="", in_recovery=False, own=Claim(), highest=Claim())
        assert (alone.role, "no other sites" in alone.reason) == ("primary", True)

    @pytest.mark.parametrize("said_by", ["highest", "witness"])
    def test_a_higher_one_anywhere_supersedes_it(self, said_by: str) -> None:
        claims = {"highest": PARIS, "witness": None, said_by: BERLIN}
        role = decide_role(site_id=PARIS.site_id, in_recovery=False, own=PARIS, **claims)  # type: ignore[arg-type]
        assert role.role == "superseded"
        assert role.reason == "this site was superseded by berlin at epoch 4: push to https://berlin.example"

    def test_a_promotion_that_has_not_ended_is_none_yet(self) -> None:
        mine = replace(PARIS, epoch=4)
        role = decide_role(site_id=PARIS.site_id, in_recovery=False, own=PARIS, highest=mine)
        assert role.role == "replica"
        assert "has not ended" in role.reason
