"""A single node on a disk of its own: people push, power goes, the node starts again, and is judged."""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from support.chaos.history import ABSENT, Recorder
from support.chaos.invariants import history_findings
from support.chaos.load import Desk, Load, RawClient, fresh_commit
from support.chaos.power import Disk
from support.chaos.tally import Tally
from support.node import Node
from support.raw_push import RawPusher

REPOSITORY = "root/ledger"
_REFS = [f"refs/heads/line-{number}" for number in range(4)]
_CLIENTS = 3
_PUSHED_S_MAX = 60.0
_POLL_S = 0.05


@dataclass
class PowerCuts:
    """Use within `Disk`. `node` may be given another environment between two cuts."""

    disk: Disk
    seed: int
    node: Node = field(init=False)
    recorder: Recorder = field(init=False, default_factory=Recorder)
    cuts: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.node = Node(self.disk.directory / "node")

    def begin(self) -> None:
        self.node.start()
        self._token = self.node.token(scopes="api,write_repository")
        first, objects = fresh_commit(ABSENT, "the beginning")
        pusher = self._pusher()
        assert pusher.push([("refs/heads/main", ABSENT, first)], objects) == {"refs/heads/main": "ok"}
        pusher.close()

    def cut(self, *, after: int) -> None:
        """Push until so many pushes were acknowledged, then the power goes, and comes back."""
        tally = Tally()
        desk = Desk(self.recorder, tally, Event())
        load = Load(self._clients(desk), desk)
        load.begin()
        until_s = time.monotonic() + _PUSHED_S_MAX
        while tally.done["push"] < after:
            assert time.monotonic() < until_s, tally.reasons.most_common(3)
            time.sleep(_POLL_S)
        self.node.kill()
        self.disk.lose_power()
        self.cuts += 1
        # The kernel of this machine is still the same; that of a machine without power would not be.
        (self.node.data / "cache" / "boot_id").write_text(f"boot {self.cuts}")
        load.end()
        self.node.start()

    def findings(self) -> list[str]:
        """What is lost, half or stale, and what `mainstay fsck` says."""
        pusher = self._pusher()
        try:
            found = history_findings(self.recorder.operations, REPOSITORY, pusher.refs())
        finally:
            pusher.close()
        checked = self.node.run("fsck", "--json", check=False)
        return found if checked.returncode == 0 else [*found, f"fsck: {checked.stdout}"]

    def _pusher(self) -> RawPusher:
        return RawPusher(f"{self.node.url}/{REPOSITORY}.git", "root", self._token)

    def _clients(self, desk: Desk) -> list[RawClient]:
        return [
            RawClient(
                f"client-{self.seed}-{self.cuts}-{number}",
                self._pusher(),
                REPOSITORY,
                _REFS,
                desk,
                random.Random(f"{self.seed} {self.cuts} {number}"),
            )
            for number in range(_CLIENTS)
        ]


def suffer_power_cuts(directory: Path, *, cuts: int, seed: int, after: int = 12) -> list[str]:
    """So many in a row, and what is wrong at the end."""
    with Disk(directory / "disk") as disk:
        world = PowerCuts(disk, seed)
        try:
            world.begin()
            for _ in range(cuts):
                world.cut(after=after)
            return world.findings()
        finally:
            world.node.kill()
