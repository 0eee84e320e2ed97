"""Decide what becomes of a request of Git on a site. Reads nothing but its arguments; does nothing.

| the site is | fetch | anything else |
|---|---|---|
| primary | here | here |
| replica, the primary admits, and all that it has is here | here | sent on |
| replica, the primary refuses, or has more than is here | sent on | sent on |
| replica, the primary is away | here, and said so | refused, said why |
| superseded | sent on | sent on |
| superseded, the new primary is away | refused, said why | refused, said why |

A refusal is sent for, too, so that it is the primary's in every byte.
A superseded site serves nothing of its own: what it has taken since may be on no other.
"""

from dataclasses import dataclass
from typing import Literal

from mainstay.cluster.station import Sight

HOPS_MAX = 3
"""Sites that a request may be sent on by, while they change roles."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the primary said of a fetch. `version` is None when it refused, or knows of nothing there."""

    version: int | None = None


@dataclass(frozen=True, slots=True)
class Here:
    """What this site has of a repository."""

    version: int
    is_complete: bool
    """Whether all packs of that version are in the object store of this site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    sight: Sight
    is_fetch: bool
    primary: Literal["not asked", "answers", "away"] = "not asked"
    said: Said | None = None
    here: Here | None = None
    hops: int = 0
    why_away: str = ""


@dataclass(frozen=True, slots=True)
class ServeHere:
    because: str


@dataclass(frozen=True, slots=True)
class ServeStale:
    """As far as this site has come. `remark` is for the person, `behind` for programs."""

    because: str
    remark: str
    behind: str


@dataclass(frozen=True, slots=True)
class AskPrimary:
    because: str


@dataclass(frozen=True, slots=True)
class SendOn:
    because: str


@dataclass(frozen=True, slots=True)
class Refuse:
    because: str
    sentence: str


Step = ServeHere | ServeStale | AskPrimary | SendOn | Refuse


def decide(view: View) -> Step:
    """Say what to do next with a request."""
    role = view.sight.role
    if role == "primary":
        return ServeHere("this site is the primary")
    if view.hops >= HOPS_MAX:
        return Refuse(
            f"{view.hops} sites have sent it on before",
            "no site takes itself for the primary at the moment: try again",
        )
    if view.primary == "away":
        return _without_primary(view)
    if role == "superseded" or not view.is_fetch:
        return SendOn(f"this site is {role}" if role == "superseded" else "only the primary takes changes")
    if view.primary == "not asked":
        return AskPrimary("a fetch is served here if this is as new as the primary's")
    return _by_freshness(view.said or Said(), view.here)


def _by_freshness(said: Said, here: Here | None) -> ServeHere | SendOn:
    if said.version is None:
        return SendOn("the primary refuses it, and says so best itself")
    if here is None:
        return SendOn("the repository is not here yet")
    if here.version < said.version:
        return SendOn(f"version {here.version} is here, the primary has {said.version}")
    if not here.is_complete:
        return SendOn("not all packs are here yet")
    return ServeHere(f"version {here.version} is here, as new as the primary's")


def _without_primary(view: View) -> ServeStale | Refuse:
    where = _primary_of(view.sight)
    away = f"{where} does not answer"
    if view.sight.role == "replica" and view.is_fetch:
        known = behind(view.sight)
        return ServeStale(
            away, f"The primary does not answer. This is a replica; what it has is {known[1]}.", known[0]
        )
    if view.sight.role == "superseded":
        return Refuse(away, f"this site is not the primary any more, and {away}: nothing was changed")
    return Refuse(
        away,
        f"pushes go on to the primary, and {away}: nothing was changed. Push again when it is back; an"
        " administrator can make this site the primary with `mainstay promote`",
    )


def _primary_of(sight: Sight) -> str:
    named = " ".join(part for part in (sight.primary.name, sight.primary.url) if part)
    return f"the primary ({named})" if named else "the primary"


def behind(sight: Sight) -> tuple[str, str]:
    """How far the site is behind: for a header, and for a sentence."""
    seconds = sight.lag.seconds if sight.lag else None
    if seconds is None:
        return "unknown", "as of its last contact with the primary"
    return f"{seconds:.0f}s", f"at most {seconds:.0f} s behind it"
