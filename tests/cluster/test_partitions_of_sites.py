"""Two sites and a witness on hosts of their own, whose cables are cut while people push at both sites.

At most one of them acknowledges, and when the cables are whole again, everything acknowledged is there.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.certificates import make_certificate
from support.chaos.network import Host
from support.long import only_long
from support.managed import roomy_path
from support.replicas import is_superseded
from support.servers import end, wait_until
from support.site_hosts import PORT, Pusher, Scene, pair_on_hosts, pushing

__all__ = ["roomy_path"]

pytestmark = [only_long, pytest.mark.timeout(600), pytest.mark.xdist_group("site-hosts")]

_S_MAX = 90
_CUT_S = 25.0
"""Longer than a term and what a takeover takes."""


@pytest.fixture
def scene(roomy_path: Path) -> Iterator[Scene]:
    with (
        pair_on_hosts(roomy_path) as made,
        _witness(roomy_path / "witness", made.hosts["witness"]) as options,
    ):
        _switch_on(made, options)
        yield made


@contextmanager
def _witness(data: Path, host: Host) -> Iterator[Sequence[str]]:
    """The options by which a site is told of it."""
    certificate, key = make_certificate(data.with_name("witness-tls"), address=host.address)
    listen = f"{host.address}:{PORT}"
    files = ["--data", str(data), "--certificate", str(certificate), "--key", str(key)]
    command = [*host.prefix, sys.executable, "-m", "mainstay", "witness", "serve", "--listen", listen, *files]
    with data.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        wait_until((data / "token").exists, timeout_s=_S_MAX, what="the token of the witness")
        yield [
            *("--witness", f"https://{listen}"),
            *("--token-file", str(data / "token"), "--authority", str(certificate)),
        ]
    finally:
        end(process)


def _switch_on(scene: Scene, witness: Sequence[str]) -> None:
    refused = scene.paris.run("failover", "--automatic", check=False)
    assert (refused.returncode, "cannot tell a dead partner" in refused.stderr) == (5, True), refused.stderr
    done = scene.paris.run("failover", "--automatic", *witness, check=False)
    assert done.returncode == 0, done.stderr
    wait_until(
        lambda: "may take over: berlin" in scene.paris.run("failover", check=False).stdout,
        timeout_s=_S_MAX,
        what="berlin is named",
    )


Cut = Callable[[Scene, ExitStack], None]


def between_the_sites(scene: Scene, cuts: ExitStack) -> None:
    cuts.enter_context(scene.network.cut(scene.hosts["paris"], scene.hosts["berlin"]))


def what_the_replica_answers(scene: Scene, cuts: ExitStack) -> None:
    cuts.enter_context(scene.network.cut(scene.hosts["paris"], scene.hosts["berlin"], both=False))


def what_the_primary_sends(scene: Scene, cuts: ExitStack) -> None:
    cuts.enter_context(scene.network.cut(scene.hosts["berlin"], scene.hosts["paris"], both=False))


def the_primary_alone(scene: Scene, cuts: ExitStack) -> None:
    for other in ("berlin", "witness"):
        cuts.enter_context(scene.network.cut(scene.hosts["paris"], scene.hosts[other]))


def the_witness_alone(scene: Scene, cuts: ExitStack) -> None:
    for other in ("paris", "berlin"):
        cuts.enter_context(scene.network.cut(scene.hosts["witness"], scene.hosts[other]))


def the_primary_and_the_witness(scene: Scene, cuts: ExitStack) -> None:
    cuts.enter_context(scene.network.cut(scene.hosts["paris"], scene.hosts["witness"]))


CUTS: list[Cut] = [
    between_the_sites,
    what_the_replica_answers,
    what_the_primary_sends,
    the_primary_alone,
    the_witness_alone,
    the_primary_and_the_witness,
]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
def test_at_most_one_acknowledges_and_nothing_is_dropped(scene: Scene, cut: Cut) -> None:
    _suffer(scene, [cut])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_after_the_other(scene: Scene, seed: int) -> None:
    _suffer(scene, random.Random(seed).sample(CUTS, 3))


def _suffer(scene: Scene, cuts: Sequence[Cut]) -> None:
    with pushing(scene) as pushers:
        for cut in cuts:
            wait_until(lambda: all(p.count for p in pushers[:2]), timeout_s=_S_MAX, what="pushes")
            with ExitStack() as cables:
                cut(scene, cables)
                time.sleep(_CUT_S)  # that is the fault
            _heal(scene)
            _wait_for_pushes(pushers)
    scene.check(scene.leader_and_follower()[0], pushers)


def _wait_for_pushes(pushers: Sequence[Pusher]) -> None:
    before = sum(pusher.count for pusher in pushers)
    wait_until(
        lambda: sum(pusher.count for pusher in pushers) > before + 3, timeout_s=_S_MAX, what="pushes go on"
    )


def _heal(scene: Scene) -> None:
    """One leads, the other follows; who was superseded rejoins."""
    leader, follower = scene.leader_and_follower()
    if is_superseded(follower):
        done = follower.run("replica", "rejoin", check=False)
        assert done.returncode == 0, done.stderr
    wait_until(
        lambda: f"may take over: {follower.data.name}" in leader.run("failover", check=False).stdout,
        timeout_s=_S_MAX,
        what=f"{follower.data.name} is named again",
    )
