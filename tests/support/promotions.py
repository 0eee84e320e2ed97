"""Promotions in a row, in the ways of which a seed chooses, and what must hold after each.

    python -m support.promotions --count 100 --seed 7

Two synchronous sites; before each promotion somebody pushes, and what was acknowledged counts for ever.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from support.managed import roomy_directory
from support.node import Node
from support.pushes import Pushes, workplace
from support.replicas import is_superseded, two_sites
from support.servers import wait_until

_S_MAX: Final = 120
_FSCK_EVERY: Final = 10


@dataclass(kw_only=True)
class Pair(Pushes):
    """Who leads, who follows, and what was acknowledged."""

    leader: Node
    follower: Node
    chance: random.Random
    epoch: int = 1
    slowest_s: float = 0.0
    ways: Counter[str] = field(default_factory=Counter)

    def promote_once(self) -> str:
        """Some pushes, one promotion in a way of chance, and the other site as its replica again."""
        self.wait_until_well()
        for _ in range(self.chance.randint(1, 3)):
            assert self.push(self.chance.choice([self.leader, self.follower])), "no push was acknowledged"
        way = self.chance.choice([self.planned, self.killed, self.killed_in_the_middle, self.forced])
        way()
        self.ways[way.__name__] += 1
        self.epoch += 1
        self.leader, self.follower = self.follower, self.leader
        self.check()
        return way.__name__

    def wait_until_well(self) -> None:
        """The follower is synchronous and has everything."""
        wait_until(lambda: _code(self.leader, "replica", "status") == 0, timeout_s=_S_MAX, what="a well pair")

    # The ways
    def planned(self) -> None:
        self._must(self.leader, "failover", "--to", self.follower.data.name, "--yes")

    def killed(self) -> None:
        self.leader.kill()
        self._promote()
        self.leader.start()
        self._rejoin()

    def killed_in_the_middle(self) -> None:
        """Of a push: whoever pushed is told nothing good, so it may be there or not."""
        pushing = threading.Thread(target=self.push, args=(self.leader,))
        pushing.start()
        time.sleep(self.chance.random() / 2)  # a moment of chance, not a wait for anything
        self.leader.kill()
        pushing.join(_S_MAX)
        self._promote()
        self.leader.start()
        self._rejoin()

    def forced(self) -> None:
        """Although the old one lives: in synchronous mode it acknowledges nothing alone."""
        self._promote("--force")
        wait_until(lambda: is_superseded(self.leader), timeout_s=_S_MAX, what="the old one knows")
        self._rejoin()

    def _promote(self, *options: str) -> None:
        began_s = time.monotonic()
        self._must(self.follower, "promote", "--yes", *options)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)

    def _rejoin(self) -> None:
        wait_until(lambda: is_superseded(self.leader), timeout_s=_S_MAX, what="the old one knows")
        self._must(self.leader, "replica", "rejoin")

    def _must(self, node: Node, *arguments: str) -> None:
        done = node.run(*arguments, check=False, timeout_s=2 * _S_MAX)
        assert done.returncode == 0, f"{node.data.name}$ mainstay {' '.join(arguments)}: {done.stderr}"

    # What must hold
    def check(self) -> None:
        """One site serves people, the epoch rose by one, and every acknowledged push is there."""
        wait_until(lambda: self.leader.get("/status")[0] == 200, timeout_s=_S_MAX, what="the new one serves")
        assert self.follower.get("/status")[0] == 503
        wait_until(lambda: self.push(self.leader), timeout_s=_S_MAX, what="a push to the new primary")
        for node in (self.leader, self.follower):
            lost = self.lacking(node)
            assert not lost, f"{node.data.name} lacks {lost}"
        assert _epoch(self.leader) == self.epoch
        if self.epoch % _FSCK_EVERY == 0:
            self._must(self.leader, "fsck")


def _code(node: Node, *arguments: str) -> int:
    return node.run(*arguments, check=False).returncode


def _epoch(node: Node) -> int:
    return int(json.loads((node.data / "site.json").read_text())["own"]["epoch"])


def run(directory: Path, *, count: int, seed: int, tell: Callable[[str], None] = print) -> Pair:
    """Raises `AssertionError` at the first thing that does not hold."""
    git, work = workplace(directory)
    with two_sites(directory / "sites", mode="sync") as sites:
        pair = Pair(
            git=git,
            work=work,
            password=sites.paris.root_password(),
            leader=sites.paris,
            follower=sites.berlin,
            chance=random.Random(seed),
        )
        wait_until(lambda: pair.push(pair.leader), timeout_s=_S_MAX, what="the first push")
        for number in range(1, count + 1):
            way = pair.promote_once()
            tell(f"{number}: {way}, epoch {pair.epoch}, {len(pair.pushed)} pushes acknowledged")
    return pair


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m support.promotions", description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    with roomy_directory() as directory:
        pair = run(directory, count=asked.count, seed=asked.seed)
    ways = ", ".join(f"{number} {way}" for way, number in sorted(pair.ways.items()))
    print(f"{asked.count} promotions ({ways}), {len(pair.pushed)} pushes acknowledged, none lost,")
    print(f"slowest promotion {pair.slowest_s:.1f} s; seed {asked.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
