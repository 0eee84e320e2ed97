"""How often each class of fault has to come, so that a long run shows what it is meant to show.

The figures of the issue are for thirty minutes; a shorter run aims at its share of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

NODE_KILLS = "node kills"
FAILOVERS = "database failovers"
PARTITIONS = "partitions"
POWER_LOSSES = "power losses"

GOALS: Mapping[str, int] = MappingProxyType({NODE_KILLS: 110, FAILOVERS: 24, PARTITIONS: 24})
"""A tenth more than was asked for."""
_GOAL_MINUTES = 30.0

_COUNTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "node killed": {NODE_KILLS: 1},
        "two nodes killed": {NODE_KILLS: 2},
        "all nodes killed": {NODE_KILLS: 3},
        "node and database killed": {NODE_KILLS: 1, FAILOVERS: 1},
        "database killed": {FAILOVERS: 1},
        "database machine killed": {FAILOVERS: 1},
        "database machine frozen": {FAILOVERS: 1},
        "database switched": {FAILOVERS: 1},
        "failover agent frozen": {FAILOVERS: 1},
        "node cut from database": {PARTITIONS: 1},
        "node cut from store": {PARTITIONS: 1},
        "node cut from redis": {PARTITIONS: 1},
        "node cut from nodes": {PARTITIONS: 1},
        "answers of the database lost": {PARTITIONS: 1},
        "node unplugged": {PARTITIONS: 1},
    }
)
"""What one fault counts for. Those that are not named count for nothing here."""


@dataclass(frozen=True, slots=True)
class Want:
    """A class of faults that is behind, and those that would help, by their weights."""

    what: str
    weights: Mapping[str, float]


def counted(names: Sequence[str]) -> Counter[str]:
    """What the faults that were done come to."""
    total: Counter[str] = Counter()
    for name in names:
        total.update(_COUNTS.get(name, {}))
    return total


def most_wanted(done: Counter[str], possible: Mapping[str, float], *, minutes: float) -> Want | None:
    """The class that is farthest behind its goal; None when none is, or nothing possible would help.

    `possible` are weights: which of those that help is left to chance.
    """
    share = max(minutes, 0.0) / _GOAL_MINUTES
    behind: list[tuple[float, Want]] = []
    for what, goal in GOALS.items():
        wanted = goal * min(share, 1.0)
        helpful = {name: weight for name, weight in possible.items() if what in _COUNTS.get(name, {})}
        if helpful and done[what] < wanted:
            behind.append((done[what] / wanted, Want(what, helpful)))
    return min(behind, key=lambda each: each[0])[1] if behind else None


def sentence(done: Counter[str]) -> str:
    """For the report."""
    return ", ".join(f"{done[what]} {what}" for what in (*GOALS, POWER_LOSSES))
