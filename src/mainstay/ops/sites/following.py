"""When a replica turns to another primary by itself, and when it must not.

Histories of a database are numbered by *timelines*: each promotion begins a new one where the old one had
come to. Who has replayed more of the old one than the new primary has, cannot follow: what it has too much
would have to be taken back first (`mainstay replica rejoin`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mainstay.storage.database.fence import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What a replica sees."""

    me: str
    """Its site id."""
    follows: str
    """The site whose database ours follows now; empty: nobody's."""
    newest: Claim
    """The highest epoch known anywhere."""
    is_paused: bool = False
    database_address: str = ""
    """Of the site that has the newest epoch; empty: not known here."""
    timeline: int = 0
    """Of the history that we have."""
    received: int = 0
    """How much of it is here, in bytes."""
    forks: Mapping[int, int] = field(default_factory=dict)
    """Of the new primary: timeline → where it was left for the next one. Empty: not known."""


@dataclass(frozen=True, slots=True)
class Stay:
    because: str
    is_stuck: bool = False
    """Somebody has to do something."""


@dataclass(frozen=True, slots=True)
class Follow:
    site_id: str
    because: str


def decide(view: Following) -> Stay | Follow:
    """Say whom to follow. Reads nothing but `view`."""
    newest = view.newest
    whose = newest.name or newest.site_id
    if not newest.epoch or newest.site_id == view.me:
        return Stay("no other site has a newer epoch")
    if newest.site_id == view.follows:
        return Stay(f"it follows {whose}, who has the newest epoch")
    if view.is_paused:
        return Stay(f"{whose} has epoch {newest.epoch}, but this replica is paused", is_stuck=True)
    if not view.database_address:
        return Stay(f"{whose} has epoch {newest.epoch}, but where its database is, is not known here")
    too_much = _too_much(view)
    if too_much is not None:
        return Stay(too_much, is_stuck=True)
    return Follow(newest.site_id, f"{whose} was promoted to epoch {newest.epoch}")


def _too_much(view: Following) -> str | None:
    """What is here and not there, if it is known."""
    left_at = view.forks.get(view.timeline)
    if left_at is None or view.received <= left_at:
        return None
    whose = view.newest.name or view.newest.site_id
    return (
        f"this replica has {view.received - left_at} bytes of the old primary's history that {whose} has not:"
        " `mainstay replica add` makes a new copy"
    )
