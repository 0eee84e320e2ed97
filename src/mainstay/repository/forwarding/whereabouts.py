"""Where the primary is, for who sends something on: by the list of sites, which came with the database."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mainstay.cluster.sites.registry import NoSuchSite, Site, site_by
from mainstay.cluster.station import Sight
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, Unavailable
from mainstay.repository.remote.kept import Kept
from mainstay.storage.database import Database

_FRESH_S = 5.0
_OLD_S_MAX = 0.2
"""So long a fresher answer is waited for where an old one is known: sites rarely move."""
_KNOWN_MAX = 16


class PrimaryAway(Unavailable):
    """The primary was not reached, or stopped in the middle. Nothing that it had not taken has happened."""


@dataclass(frozen=True, slots=True)
class Primary:
    """Where to send something on to."""

    site_id: str
    name: str
    host: str
    port: int


class Whereabouts:
    """Belongs to one event loop."""

    def __init__(self, look_up: Callable[[str], Site], *, clock: Clock) -> None:
        """`look_up` finds a site by its id; it blocks."""
        self._look_up = look_up
        self._clock = clock
        self._known: dict[str, Kept[Site]] = {}

    async def primary(self, sight: Sight) -> Primary:
        """Raises `PrimaryAway` when that is not known."""
        site_id = sight.primary.site_id
        if not site_id:
            raise PrimaryAway("it is not known which site is the primary")
        try:
            site = await self._kept(site_id).get()
        except MainstayError as error:
            raise PrimaryAway(f"it is not known where the primary is: {error}") from error
        host, _, port = site.sites_address.rpartition(":")
        if not host:
            raise PrimaryAway(f"the primary {site.name!r} has no address for other sites")
        return Primary(site.id, site.name, host.strip("[]"), int(port))

    def _kept(self, site_id: str) -> Kept[Site]:
        found = self._known.get(site_id)
        if found is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            found = self._known[site_id] = Kept(
                partial(self._look_up, site_id), fresh_s=_FRESH_S, clock=self._clock, wait_s_max=_OLD_S_MAX
            )
        return found


def in_registry(database: Database, site_id: str) -> Site:
    """A site by the list. Raises `Unavailable` also when it is not on it: the list may be behind."""
    try:
        return site_by(database, site_id)
    except NoSuchSite as error:
        raise Unavailable(str(error)) from error
