"""The machine of the primary loses its power while people push: its synchronous replica has everything."""

import json
import time
from pathlib import Path

import pytest

from mainstay.ops.sites.memory import Memory
from support.long import only_long
from support.managed import roomy_path
from support.node import Node
from support.servers import wait_until
from support.site_hosts import pair_on_hosts, pushing

__all__ = ["roomy_path"]

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("site-hosts")]

_S_MAX = 90
_PROMOTED_S_MAX = 60.0
_MEANWHILE_S = 2.0


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=only_long) for seed in (2, 3))])
def test_what_was_acknowledged_is_on_the_replica(roomy_path: Path, seed: int) -> None:
    """Its cable is dead from the same moment: nobody hears a reset, only silence."""
    with pair_on_hosts(roomy_path) as scene:
        wait_until(
            lambda: scene.paris.run("replica", "status", check=False).returncode == 0,
            timeout_s=_S_MAX,
            what="the pair is well",
        )
        wait_until(lambda: _is_waited_for(scene.berlin), timeout_s=_S_MAX, what="the replica was told so")
        with pushing(scene, at_each=1 + seed) as pushers:
            wait_until(lambda: all(p.count > 3 * seed for p in pushers), timeout_s=_S_MAX, what="pushes")
            with scene.network.isolated(scene.hosts["paris"]):
                time.sleep(_MEANWHILE_S / seed)  # what is acknowledged now reaches nobody
                scene.paris.kill()
                began_s = time.monotonic()
                done = scene.berlin.run("promote", "--yes", "--json", check=False)
                assert done.returncode == 0, done.stderr
                before = pushers[-1].count
                wait_until(lambda: pushers[-1].count > before, timeout_s=_S_MAX, what="pushes at the replica")
                took_s = time.monotonic() - began_s
        loss = json.loads(done.stdout)["plan"]["loss"]
        assert loss["is_zero"], loss
        assert took_s <= _PROMOTED_S_MAX
        scene.check(scene.berlin, pushers)


def _is_waited_for(node: Node) -> bool:
    """As far as it has heard: what it prints before a promotion is what it knows."""
    heard = Memory(node.data).heard()
    return heard is not None and heard.waits_for_us
