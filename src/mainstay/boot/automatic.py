"""Automatic failover, switched on and off by a person on the primary, and how it is."""

from dataclasses import dataclass, replace
from pathlib import Path

from mainstay.boot import witnessing
from mainstay.boot.stores import Stores
from mainstay.boot.witnessing import TERMS, Whereabouts
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.registry import sites
from mainstay.cluster.witness import Seen, WitnessAway
from mainstay.cluster.witness.arbiter import WitnessArbiter
from mainstay.cluster.witness.decisions import refusal_of_automatic
from mainstay.foundation.errors import Conflict
from mainstay.storage.database.fence import Standing


class CannotBeAutomatic(Conflict):
    """Something is missing without which sites must not fail over by themselves; the message says what."""


class NotThePrimary(Conflict):
    """The command belongs on the primary."""


@dataclass(frozen=True, slots=True)
class Automatic:
    """How automatic failover is."""

    is_on: bool
    witness: str = ""
    """Its address."""
    primary: str = ""
    standby: str = ""
    """The name of the site that may take over; empty: none has everything."""
    age_s: float | None = None
    """Since the primary last renewed; None: the witness does not answer."""
    trouble: str = ""


def switch_on(stores: Stores, found: Whereabouts | None) -> None:
    """Enrol this site at the witness, and let all sites know where that is. Idempotent.

    Raises `CannotBeAutomatic`, `NotThePrimary`, `WitnessAway`, `Superseded`, and what `open_witness` raises.
    """
    standing = _as_primary(stores)
    others = [site for site in sites(stores.database) if site.id != standing.site_id]
    refused = refusal_of_automatic(
        sites=1 + len(others),
        has_witness=found is not None,
        is_synchronous=any(site.mode == "sync" and site.kind == "replica" for site in others),
    )
    if refused is not None or found is None:
        raise CannotBeAutomatic(str(refused))
    WitnessArbiter(witnessing.open_witness(found), TERMS).enrol(standing.own)
    witnessing.remember(stores, found)


def switch_off(stores: Stores, *, is_forced: bool) -> None:
    """The process of the site lets the witness name nobody (`is_forced`: unasked), and then is free of it."""
    _as_primary(stores)
    found = witnessing.whereabouts(stores.database, stores.settings.data)
    if found is not None:
        witnessing.remember(stores, replace(found, is_ending=True, is_forced=is_forced))


def look(stores: Stores) -> Automatic:
    """Asks the witness. Raises `Unavailable` when the database of this site is away."""
    found = witnessing.whereabouts(stores.database, stores.settings.data)
    if found is None:
        return Automatic(is_on=False)
    try:
        seen = witnessing.open_witness(found).look()
    except WitnessAway as away:
        return Automatic(is_on=True, witness=found.url, trouble=str(away))
    if seen is None:
        return Automatic(is_on=True, witness=found.url, trouble="the witness has no record of these sites")
    return _described(stores, found, seen)


def _described(stores: Stores, found: Whereabouts, seen: Seen) -> Automatic:
    names = {site.id: site.name for site in sites(stores.database)}
    record = seen.record
    return Automatic(
        is_on=True,
        witness=found.url,
        primary=names.get(record.primary, record.name),
        standby=names.get(record.standby, record.standby),
        age_s=round(seen.age_s, 1),
        trouble="it is being switched off" if found.is_ending else "",
    )


def _as_primary(stores: Stores) -> Standing:
    standing = SiteFile(stores.settings.data).read()
    if standing is None:
        raise CannotBeAutomatic(str(refusal_of_automatic(sites=1, has_witness=False, is_synchronous=False)))
    if not standing.leads:
        raise NotThePrimary("this site is not the primary: give the command there")
    return standing


def whereabouts_in(url: str, token_file: Path | None, authority_file: Path | None) -> Whereabouts:
    """From what a person said, with the files read."""
    return Whereabouts(
        url=url,
        token=token_file.read_text("ascii").strip() if token_file else "",
        authority=authority_file.read_text("ascii") if authority_file else "",
    )
