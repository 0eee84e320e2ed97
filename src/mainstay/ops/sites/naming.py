"""Where automatic failover is on: whom commits wait for, and whom the witness names, one step at a time.

The order is what keeps a push: a replica is named only when commits wait for it and it has all that was
acknowledged before; and commits stop waiting for a replica only after the witness has confirmed that it names
it no more. So whoever the witness names has everything, at every moment.

Unlike without a witness, a synchronous replica that is away does not stop pushes for ever: after `AWAY_S_MAX`
it is named no more, and the primary goes on alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

AWAY_S_MAX: Final = 4.0
"""Longer than a restart of its PostgreSQL takes, and far less than people wait for a push."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One site whose answer commits may wait for."""

    site_id: str
    is_wanted: bool
    """On the list, active, in sync mode, a whole replica."""
    is_waited_for: bool
    away_s: float = 0.0
    """For how long it has not been following; 0 while it follows."""
    has_nearly_all: bool = False
    has_everything: bool = False
    """All that was acknowledged before commits waited for it."""


@dataclass(frozen=True, slots=True)
class Stay:
    because: str


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Let commits wait for these sites, and for no others."""

    site_ids: frozenset[str]
    because: str


@dataclass(frozen=True, slots=True)
class Name:
    """Let the witness name this site; empty: none."""

    site_id: str
    because: str


Step = Stay | WaitFor | Name


def decide(sites: Sequence[Standing], *, named: str | None) -> Step:
    """The next step. `named`: whom the witness names, as it has confirmed; None: that is not certain."""
    if named is None:
        return Stay("the witness has not confirmed whom it names")
    waited = frozenset(site.site_id for site in sites if site.is_waited_for)
    lost = [site for site in sites if site.is_waited_for and _is_lost(site)]
    name = _name(sites, named, waited, lost)
    if name is not None:
        return name
    if lost:
        return WaitFor(waited - {site.site_id for site in lost}, f"{_names(lost)}: nobody waits any more")
    new = [site for site in sites if site.is_wanted and site.has_nearly_all and not site.is_waited_for]
    if new:
        return WaitFor(waited | {site.site_id for site in new}, f"{_names(new)}: nearly everything is there")
    return Stay("nothing has changed")


def _name(
    sites: Sequence[Standing], named: str, waited: frozenset[str], lost: Sequence[Standing]
) -> Name | None:
    """Whom the witness is to name instead; None: whom it names is right."""
    fit = [
        site.site_id for site in sites if site.has_everything and not site.away_s and site.site_id in waited
    ]
    fit = [site_id for site_id in fit if all(site_id != site.site_id for site in lost)]
    if named and named not in waited:
        return Name("", f"commits do not wait for {named}")
    if any(site.site_id == named for site in lost):
        return Name(fit[0] if fit else "", f"{named} is {_why_lost(lost, named)}")
    if not named and fit:
        return Name(fit[0], f"{fit[0]} has everything")
    return None


def _is_lost(site: Standing) -> bool:
    return not site.is_wanted or site.away_s > AWAY_S_MAX


def _why_lost(lost: Sequence[Standing], site_id: str) -> str:
    found = next(site for site in lost if site.site_id == site_id)
    return f"away for {found.away_s:.1f} s" if found.is_wanted else "not to be waited for any more"


def _names(sites: Sequence[Standing]) -> str:
    return ", ".join(site.site_id for site in sites)
