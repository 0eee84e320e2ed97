"""Whose fault is it that the database does not answer: this node's, or everybody's?

A node that alone cannot reach the database must leave the balancer's rotation. A database that is away for
all must take nobody out: what can still work goes on, and what cannot says so. So a node whose line fails
asks the other nodes that it last knew whether theirs works, and decides (`decide`, pure).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["well", "alone", "cut_off", "shared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSays:
    """What another node answered."""

    name: str
    reached: bool
    """Whether it was there at all; one that was there and gave no clear answer vouches for nothing."""
    well: bool = False
    """It reaches the dependency itself, at this moment."""
    denies: bool = False
    """It said clearly that it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What this node sees of one dependency."""

    dependency: str
    """`database` or `object store`."""
    answers: bool
    peers: Sequence[PeerSays] = ()
    """Of the nodes that were alive when the database was last seen."""
    was_shared: bool = False
    """In this outage, some peer was reached and did no better."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether this node should take traffic, and why."""

    kind: Kind
    because: str = ""

    @property
    def takes_traffic(self) -> bool:
        return self.kind in ("well", "shared")


WELL = Verdict("well")
FIND_AGAIN_S = 5.0
"""In which all nodes find a database that has come back."""


def decide(view: View) -> Verdict:
    """Say whose fault it is. Reads nothing but `view`; does nothing.

    Once an outage was seen to be shared, peers that fall silent later are no sign against this node:
    nodes may die in a long outage, and the last one should go on with what it can.
    """
    if view.answers:
        return WELL
    if not view.peers:
        return Verdict("shared", f"the {view.dependency} does not answer, and there is no other node to ask")
    if well := [peer.name for peer in view.peers if peer.well]:
        return Verdict("alone", f"the {view.dependency} answers {_names(well)} but not this node")
    if reached := [peer.name for peer in view.peers if peer.reached]:
        return Verdict("shared", f"the {view.dependency} answers neither this node nor {_names(reached)}")
    silent = _names([peer.name for peer in view.peers])
    if view.was_shared:
        return Verdict("shared", f"the {view.dependency} is away for everybody; now {silent} is silent, too")
    return Verdict("cut_off", f"neither the {view.dependency} nor {silent} answers this node")


def should_send_away(verdict: Verdict, *, shared_ago_s: float) -> bool:
    """Whether requests that wait for the database here should go to another node at once.

    `shared_ago_s`: how long ago the database was last away for everybody. When it is back, one node sees it
    first; the others look alone for a moment, and those who waited with them so long need not go.
    """
    return not verdict.takes_traffic and shared_ago_s >= FIND_AGAIN_S


def _names(names: Sequence[str]) -> str:
    return " and ".join(sorted(names))
