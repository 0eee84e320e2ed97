"""Lines to the other sites, as the list of sites has them: for the process of a site, and for commands."""

import threading
from typing import Any, Final

from mainstay.boot.settings import NodeSettings
from mainstay.cluster.epochs.sentinel import Peer
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.reading_line import ReadingLine, open_reading_line
from mainstay.cluster.sites.identity import SiteIdentity
from mainstay.cluster.sites.line import Line
from mainstay.cluster.sites.registry import Site, sites
from mainstay.foundation.errors import Unavailable
from mainstay.storage.database.fence import Claim

_LOOK_S_MAX: Final = 5.0


class LinePeer:
    """Another site, as the sentinel asks it."""

    def __init__(self, site: Site, line: Line) -> None:
        self.name = site.name
        self._line = line

    def epoch(self) -> Claim | None:
        return claim_in(self._line.facts().get("highest"))


def claim_in(said: object) -> Claim | None:
    """What another site said. None: it knows no epoch. Raises `Unavailable`."""
    if said is None:
        return None
    try:
        facts: Any = said
        return Claim(int(facts["epoch"]), str(facts["site"]), str(facts["name"]), str(facts["url"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable("what the other site says about its epoch cannot be read") from error


class Lines:
    """One line to each of the other sites, as the list has them; the last list while the database is away."""

    def __init__(self, settings: NodeSettings) -> None:
        """On a line of its own, which also reads where nothing can be committed."""
        self._data = settings.data
        self._reading = open_reading_line(settings.database_url, limit_s=_LOOK_S_MAX)
        self._identity = SiteIdentity(settings.data)
        self._lock = threading.Lock()
        self._known: list[Site] = []
        self._lines: dict[tuple[str, str], Line] = {}

    def refresh(self) -> None:
        """Raises `Unavailable`."""
        found = sites(self._reading)
        with self._lock:
            self._known = found

    @property
    def reading(self) -> ReadingLine:
        """To the database of this site; also reads where nothing can be committed."""
        return self._reading

    @property
    def identity(self) -> SiteIdentity:
        """Ours, as we show it to others."""
        return self._identity

    def others(self) -> list[Site]:
        """All that can be spoken to."""
        standing = SiteFile(self._data).read()
        me = standing.site_id if standing else ""
        with self._lock:
            return [site for site in self._known if site.id != me and site.sites_address]

    def me(self) -> Site | None:
        standing = SiteFile(self._data).read()
        with self._lock:
            return next((site for site in self._known if standing and site.id == standing.site_id), None)

    def to(self, site: Site) -> Line:
        key = (site.id, site.sites_address)
        with self._lock:
            if key not in self._lines:
                self._lines[key] = Line(site.sites_address, self._identity, site_id=site.id)
            return self._lines[key]

    def by_id(self, site_id: str) -> Site | None:
        return next((site for site in self.others() if site.id == site_id), None)

    def peers(self) -> list[Peer]:
        return [LinePeer(site, self.to(site)) for site in self.others()]

    def close(self) -> None:
        with self._lock:
            lines = list(self._lines.values())
        for line in lines:
            line.close()
        self._reading.close()
