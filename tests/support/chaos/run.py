"""`make chaos MINUTES=30 SEED=7`: a cluster under load, one fault after the other, and a table at the end.

1. Power cuts of a single node (where root allows such disks).
2. A third of the time, ten minutes at most: a node is killed every 30 seconds, and the share of answered
   operations counted.
3. A sixth of the time, 5 minutes at most: all nodes are restarted in turn (`rolling`).
4. Every kind of fault once; then what is behind its goal (`quota`), then those that lose data where data can
   be lost, until the time is over.

Exit 0 when nothing was lost, half or stale; 1 otherwise, with the seed and the history's file.
"""

import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from mainstay.foundation import logs
from mainstay.provision.waiting import StackFailed
from support.chaos import network, power
from support.chaos.arena import Arena, Fault
from support.chaos.faults import FAULTS
from support.chaos.power_cuts import suffer_power_cuts
from support.chaos.quota import POWER_LOSSES, counted, most_wanted, sentence
from support.chaos.report import report_of, table
from support.chaos.rolling import ROLL_S_MAX, roll

_OFTEN = {
    "node killed": 1.0,
    "two nodes killed": 8.0,
    "all nodes killed": 2.0,
    "node and database killed": 5.0,
    "database killed": 3.0,
    "node cut from database": 3.0,
    "answers of the database lost": 3.0,
}
_SELDOM = 0.3
_KILL_EVERY_S = 30.0
_STEADY_S_MAX = 630.0
"""Ten minutes say what there is to say; the rest is for other faults."""
_POWER_CUTS = 12
_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "chaos.md"
_HEAD = """# The last long run of chaos

Written by `make chaos`; what the faults are and how they are judged is in
[faults](../design/faults.md). A gap is the longest time in which no client of all succeeded, waits for a
database that fails over included. Failed operations are attempts; clients try again.

"""


@click.command
@click.option("--minutes", default=5.0, help="How long faults go on.")
@click.option("--seed", type=int, help="To do the same again.")
@click.option("--database", type=click.Choice(["patroni", "pair", "single"]), default="patroni")
@click.option("--store", type=click.Choice(["rgw", "moto", "directory"]), default="rgw")
@click.option("--only", multiple=True, help="Only these faults.")
@click.option("--keep", is_flag=True, help="Keep the directory, with the history and all logs.")
@click.option("--page", is_flag=True, help="Write the table into the documentation.")
def main(
    *,
    minutes: float,
    seed: int | None,
    database: str,
    store: str,
    only: tuple[str, ...],
    keep: bool,
    page: bool,
) -> None:
    """Break a cluster for a while and judge it."""
    logs.configure(process="chaos", log_format="text", level="warning")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends, what was made is removed
    chosen = seed if seed is not None else random.SystemRandom().getrandbits(32)
    click.echo(f"seed {chosen}; {network.why_not() or 'each part on a network of its own'}")
    directory = Path(tempfile.mkdtemp(prefix="mainstay-chaos-"))
    tried_power = not only and not power.why_not()
    powerless, power_words = power_cuts(directory, chosen) if not only else ([], "not tried")
    with Arena(directory, seed=chosen, database=database, store=store) as arena:
        click.echo(f"the cluster is up after {arena.started_in_s:.0f} s; history in {directory}")
        began_s = time.monotonic()
        steady, rolled = "not measured", None
        try:
            with arena.load():
                arena.wait_until_pushed()
                if not only:
                    steady = steadily(arena, began_s + min(minutes * 20, _STEADY_S_MAX))
                    rolled = roll(arena, within_s=min(ROLL_S_MAX, minutes * 10))
                    click.echo(f"rolling restart: {rolled}")
                for fault in schedule(arena, began_s + minutes * 60, only, minutes=minutes):
                    _tell(arena, fault)
            findings = arena.judge(expected_errors=EXPECTED_ERRORS) + (rolled.findings() if rolled else [])
        except (AssertionError, StackFailed) as broken:
            findings = [f"the run broke off: {broken}"]
        done = counted([each.fault.name for each in arena.suffered])
        done[POWER_LOSSES] = _POWER_CUTS if tried_power else 0
        extra = {
            "a node killed every 30 s": steady,
            "rolling restart": str(rolled) if rolled else "not tried",
            "power cuts": power_words,
            "done": sentence(done),
            "standbys that had to be copied anew": ", ".join(arena.copied_anew) or "none",
        }
        minutes_taken = (time.monotonic() - began_s) / 60
        report = report_of(arena, [*powerless, *findings], minutes=minutes_taken, extra=extra)
    click.echo(table(report))
    (directory / "report.json").write_text(json.dumps(report.as_json(), indent=1))
    if page:
        _PAGE.write_text(_HEAD + table(report))
    if findings or keep:
        click.echo(f"everything is in {directory}")
    sys.exit(1 if findings else 0)


EXPECTED_ERRORS = ("heart.failed",)
"""Events of level error that a fault must cause."""


def power_cuts(directory: Path, seed: int) -> tuple[list[str], str]:
    """Findings, and a sentence."""
    if reason := power.why_not():
        return [], f"not tried: {reason}"
    found = suffer_power_cuts(directory, cuts=_POWER_CUTS, seed=seed)
    click.echo(f"{_POWER_CUTS} power cuts of a single node: {found or 'nothing lost'}")
    return found, f"{_POWER_CUTS}, {len(found)} findings"


def steadily(arena: Arena, until_s: float) -> str:
    """Kill a node every 30 seconds; what clients had of it, as a sentence."""
    before = arena.tally.mark()
    kills = 0
    while (next_s := time.monotonic() + _KILL_EVERY_S) < until_s or not kills:
        _tell(arena, FAULTS["node killed"])
        kills += 1
        arena.rest_until(next_s)
    share, mended = arena.tally.availability_since(before)
    return f"{kills} kills, answered {share:.4%}, with one retry {mended:.4%}"


def schedule(arena: Arena, until_s: float, only: tuple[str, ...], *, minutes: float) -> Iterator[Fault]:
    """Each that is possible here once, in the order of chance, then what is wanted until the time is over."""
    possible = [FAULTS[name] for name in only] if only else possible_in(arena)
    first = list(possible)
    arena.chance.shuffle(first)
    yield from first
    weights = {fault.name: _OFTEN.get(fault.name, _SELDOM) for fault in possible}
    while time.monotonic() < until_s:
        done = counted([each.fault.name for each in arena.suffered])
        want = most_wanted(done, weights, minutes=minutes)
        among = want.weights if want else weights
        yield FAULTS[arena.chance.choices(list(among), list(among.values()))[0]]


def possible_in(arena: Arena) -> list[Fault]:
    kinds = {arena.database, arena.store}
    return [
        fault
        for fault in FAULTS.values()
        if (arena.network or not fault.needs_network) and (not fault.needs or kinds & set(fault.needs))
    ]


def _tell(arena: Arena, fault: Fault) -> None:
    result = arena.suffer(fault)
    click.echo(
        f"{time.strftime('%H:%M:%S')} {fault.name}: {result.ended_s - result.began_s:.1f} s,"
        f" longest gap {result.gap_s:.2f} s, {result.operations} operations, {result.failed} failed"
    )


if __name__ == "__main__":
    main()
