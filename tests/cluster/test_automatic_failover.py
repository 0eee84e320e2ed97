"""Two sites and a witness: whichever of the three dies, nothing acknowledged is lost, and pushes go on."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.long import only_long
from support.managed import roomy_path
from support.node import Node
from support.ports import free_port
from support.pushes import Pushes, workplace
from support.replicas import Sites, is_superseded, two_sites
from support.servers import end, is_listening, wait_until

__all__ = ["roomy_path"]

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("managed-postgresql")]

_S_MAX = 60
_TAKEN_OVER_S_MAX = 60.0
"""From the death of the primary to the first push that its replica takes."""


class WitnessProcess:
    """`mainstay witness serve`, to be killed and started again."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def options(self) -> list[str]:
        return ["--witness", f"http://127.0.0.1:{self.port}", "--token-file", str(self.data / "token")]

    def start(self) -> None:
        command = ["witness", "serve", "--listen", f"127.0.0.1:{self.port}", "--data", str(self.data)]
        with self.data.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "mainstay", *command], stderr=log)
        wait_until(lambda: is_listening(self.port), timeout_s=_S_MAX, what="the witness listens")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)


@dataclass(kw_only=True)
class Trio(Pushes):
    """The sites, the witness, and somebody who pushes."""

    sites: Sites
    witness: WitnessProcess

    def failover(self, node: Node, *options: str) -> dict[str, Any]:
        done = node.run("failover", *options, "--json")
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def switched_on(self) -> tuple[Node, Node]:
        """Both sites, when `berlin` may take over from `paris`."""
        paris, berlin = self.sites.paris, self.sites.berlin
        self.failover(paris, "--automatic", *self.witness.options)
        self.wait_until_named(paris, "berlin")
        return paris, berlin

    def wait_until_named(self, node: Node, name: str) -> None:
        wait_until(
            lambda: self.failover(node)["standby"] == name,
            timeout_s=_S_MAX,
            what=f"{name or 'nobody'} is named",
        )

    def seconds_until_pushed(self, node: Node, *, within_s: float) -> float:
        began_s = time.monotonic()
        wait_until(lambda: self.push(node), timeout_s=within_s, what=f"a push to {node.data.name}")
        return time.monotonic() - began_s


@contextmanager
def trio(directory: Path, home: Path) -> Iterator[Trio]:
    """`berlin` is a synchronous replica of `paris`; automatic failover is off."""
    witness = WitnessProcess(directory / "witness")
    with two_sites(directory, mode="sync") as sites:
        git, work = workplace(home)
        password = sites.paris.root_password()
        found = Trio(git=git, work=work, password=password, sites=sites, witness=witness)
        try:
            witness.start()
            yield found
        finally:
            witness.stop()


@pytest.fixture
def world(roomy_path: Path, tmp_path: Path) -> Iterator[Trio]:
    with trio(roomy_path, tmp_path) as found:
        yield found


def test_the_replica_takes_over_from_a_dead_primary_and_fences_it(world: Trio) -> None:
    paris, berlin = world.sites.paris, world.sites.berlin
    refused = paris.run("failover", "--automatic", check=False)
    assert refused.returncode == 5
    assert "cannot tell a dead partner from a cut cable" in refused.stderr
    assert not world.failover(paris)["is_on"]
    assert world.failover(paris, "--automatic", *world.witness.options)["is_on"]
    world.wait_until_named(paris, "berlin")
    _is_shown_to_administrators(paris)
    for _ in range(3):
        assert world.push(paris), world.refusal
    paris.kill()
    took_s = world.seconds_until_pushed(berlin, within_s=_TAKEN_OVER_S_MAX)
    assert world.heads_of(berlin) == world.pushed
    assert took_s > 2, "the lease of the primary was waited for"
    assert world.failover(berlin)["primary"] == "berlin"
    paris.launch()
    wait_until(lambda: is_superseded(paris), timeout_s=_S_MAX, what="the old primary knows")
    world.push(paris)  # it is refused, or goes on to the new primary: it is nowhere else
    assert world.heads_of(berlin) == world.pushed


def _is_shown_to_administrators(node: Node) -> None:
    assert node.get("/api/v4/cluster/sites")[0] == 401
    code, body = node.get("/api/v4/cluster/sites", headers={"PRIVATE-TOKEN": node.token()})
    assert code == 200, body
    shown = json.loads(body)
    assert [(each["site"], each["level"]) for each in shown["replicas"]] == [("berlin", "ok")], shown
    assert shown["automatic"]["standby"] == "berlin"


@only_long
def test_the_old_primary_rejoins_and_takes_over_in_its_turn(world: Trio) -> None:
    paris, berlin = world.switched_on()
    paris.kill()
    world.seconds_until_pushed(berlin, within_s=_TAKEN_OVER_S_MAX)
    paris.launch()
    wait_until(lambda: is_superseded(paris), timeout_s=_S_MAX, what="the old primary knows")
    done = paris.run("replica", "rejoin", check=False)
    assert done.returncode == 0, done.stderr
    world.wait_until_named(berlin, "paris")
    assert world.push(berlin), world.refusal
    berlin.kill()
    world.seconds_until_pushed(paris, within_s=_TAKEN_OVER_S_MAX)
    assert world.heads_of(paris) == world.pushed


@only_long
def test_a_dead_replica_or_witness_stops_nobody_for_long_and_both_stop_writing(world: Trio) -> None:
    paris, berlin = world.switched_on()

    berlin.kill()
    assert world.seconds_until_pushed(paris, within_s=30) < 25
    assert world.failover(paris)["standby"] == ""
    berlin.start()
    world.wait_until_named(paris, "berlin")

    world.witness.kill()
    until_s = time.monotonic() + 15  # two terms: it is the replica's word that counts
    while time.monotonic() < until_s:
        assert world.push(paris), world.refusal
    world.witness.start()
    wait_until(lambda: world.failover(paris)["age_s"] is not None, timeout_s=_S_MAX, what="it answers")

    world.witness.kill()
    berlin.kill()
    wait_until(lambda: not world.push(paris), timeout_s=30, what="alone it writes no more")
    world.witness.start()
    assert world.seconds_until_pushed(paris, within_s=_S_MAX) < _S_MAX
    assert world.heads_of(paris) == world.pushed


@only_long
def test_a_primary_that_starts_goes_on_without_a_replica_that_is_gone(world: Trio) -> None:
    paris, berlin = world.switched_on()
    assert world.push(paris), world.refusal
    berlin.kill()  # before the primary, so that it does not take over
    paris.kill()
    paris.start()
    world.seconds_until_pushed(paris, within_s=_S_MAX)
    assert world.failover(paris)["standby"] == ""
    berlin.start()
    world.wait_until_named(paris, "berlin")
    assert world.push(paris), world.refusal
    assert world.heads_of(paris) == world.pushed


@only_long
def test_a_planned_failover_tells_the_witness_and_switching_off_needs_its_word(world: Trio) -> None:
    paris, berlin = world.switched_on()
    assert world.push(paris), world.refusal
    handed = world.failover(paris, "--to", "berlin", "--yes")
    assert handed["paused_s"] < 30
    world.wait_until_named(berlin, "paris")
    assert world.seconds_until_pushed(berlin, within_s=_S_MAX) < _S_MAX
    world.failover(berlin, "--manual")
    wait_until(lambda: not world.failover(berlin)["is_on"], timeout_s=_S_MAX, what="it is off")
    world.witness.kill()
    for _ in range(3):
        assert world.push(berlin), world.refusal
    assert world.heads_of(berlin) == world.pushed
