"""All nodes restarted one after the other, again and again, under load: no operation may fail, not even once.

Of three rounds one goes to the next version of the program (`support.later_program`) and one comes back, so
that for most of the time two versions serve side by side. An operation is a list of refs, a push or a fetch,
made once, without a retry.

    python -m support.chaos.rolling --seed 7      only this, until 10,000 operations were done
"""

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from threading import Event

import click

from mainstay.foundation import logs
from mainstay.provision.local.node import Node
from support.chaos.arena import REFS, REPOSITORY, Arena
from support.chaos.load import Desk, Load, RawClient
from support.later_program import later_program
from support.raw_push import pkt

OPERATIONS_MIN = 10_000
ROLL_S_MAX = 300.0
_FETCHERS = 2
_SHALLOW = b"0000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """What came of it."""

    restarts: int
    other_version: int
    """Of the restarts: those into another version than before."""
    took_s: float
    operations: int
    failed: int
    reasons: Sequence[tuple[str, int]]
    longest_gap_s: float

    def __str__(self) -> str:
        return (
            f"{self.restarts} restarts of nodes ({self.other_version} into another version) in"
            f" {self.took_s:.0f} s, {self.operations} operations, {self.failed} failed,"
            f" longest gap {self.longest_gap_s:.2f} s"
        )

    def findings(self) -> list[str]:
        """None may fail."""
        if not self.failed:
            return []
        return [f"{self.failed} operations failed while nodes were rolled: {list(self.reasons)}"]


class Fetcher(RawClient):
    """Lists the refs and fetches the tip of one, without history, over and over."""

    def run(self) -> None:
        while not self.desk.stop.is_set():
            values = self.look()
            if values:
                self.fetch(values[self.chance.choice(sorted(values))])
        self.pusher.close()

    def fetch(self, tip: str) -> None:
        asked = pkt(f"want {tip} \n".encode()) + pkt(b"deepen 1") + _SHALLOW + pkt(b"done\n")
        answer = self.pusher.post("git-upload-pack", asked)
        if answer is not None and b"PACK" in answer:
            self._succeed("fetch")
        else:
            self._fail("fetch", "no answer" if answer is None else answer[:80].decode(errors="replace"))


def roll(arena: Arena, *, operations_min: int = OPERATIONS_MIN, within_s: float = ROLL_S_MAX) -> Rolled:
    """Restart all nodes in turn, whole rounds, until enough was done or it took too long."""
    later = later_program(arena.directory / "later", releases_ahead=1, floor_raised=False).environment()
    changes: list[bool] = []
    with fetching(arena):
        began_s, before, reasons = time.monotonic(), arena.tally.mark(), Counter(arena.tally.reasons)
        for program in cycle([{}, later, {}]):
            changes += [restart_into(node, program) for node in arena.stack.nodes]
            is_enough = arena.tally.mark()[0] - before[0] >= operations_min
            if not program and (is_enough or time.monotonic() - began_s > within_s):
                break
        ended_s, after = time.monotonic(), arena.tally.mark()
    return Rolled(
        restarts=len(changes),
        other_version=sum(changes),
        took_s=ended_s - began_s,
        operations=after[0] - before[0],
        failed=after[1] - before[1],
        reasons=(Counter(arena.tally.reasons) - reasons).most_common(5),
        longest_gap_s=arena.tally.longest_gap_s(began_s, ended_s),
    )


def restart_into(node: Node, program: Mapping[str, str]) -> bool:
    """Whether it is another version than before."""
    is_another = node.environment != program
    node.environment = dict(program)
    node.restart()
    return is_another


@contextmanager
def fetching(arena: Arena) -> Iterator[None]:
    """Light clients that fetch, beside the load of the arena. Each thing they do is tried once."""
    desk = Desk(arena.recorder, arena.tally, Event())
    clients = [
        Fetcher(
            f"fetch-{number}",
            arena.pusher(),
            REPOSITORY,
            REFS,
            desk,
            random.Random(arena.chance.getrandbits(64)),
        )
        for number in range(_FETCHERS)
    ]
    load = Load(clients, desk)
    load.begin()
    try:
        yield
    finally:
        load.end()


@click.command
@click.option("--seed", type=int, default=7)
@click.option("--database", type=click.Choice(["patroni", "pair", "single"]), default="patroni")
@click.option("--store", type=click.Choice(["rgw", "moto", "directory"]), default="rgw")
@click.option("--operations", default=OPERATIONS_MIN)
@click.option("--seconds", default=ROLL_S_MAX)
def main(*, seed: int, database: str, store: str, operations: int, seconds: float) -> None:
    """Roll all nodes of a cluster under load, and judge it."""
    logs.configure(process="chaos", log_format="text", level="warning")
    directory = Path(tempfile.mkdtemp(prefix="mainstay-rolling-"))
    with Arena(directory, seed=seed, database=database, store=store) as arena:
        click.echo(f"the cluster is up after {arena.started_in_s:.0f} s; history in {directory}")
        with arena.load():
            arena.wait_until_pushed()
            rolled = roll(arena, operations_min=operations, within_s=seconds)
        click.echo(str(rolled))
        found = rolled.findings() + arena.judge()
    click.echo("\n".join(found) or "nothing lost, half or stale")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
