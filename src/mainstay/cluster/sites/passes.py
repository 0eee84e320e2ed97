"""Who may speak on the line between sites: asked for every request, answered by the registry.

An answer counts for `FRESH_S`, so who was removed is refused within a second, on a line that is open, too.
While the database is away, or hangs, the last answer counts: nobody can be removed meanwhile.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from mainstay.cluster.sites.prompt import Prompt
from mainstay.cluster.sites.registry import Entitled, Site, entitled
from mainstay.foundation.errors import NotAllowed, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import Database

log = get_logger()

FRESH_S: Final = 0.5
_KNOWN_MAX: Final = 1000


class SiteRefused(NotAllowed):
    """The certificate is good for nothing here."""


class Passes:
    """Answers by serial. Blocks. Safe for use from several threads."""

    def __init__(
        self,
        database: Database,
        *,
        fresh_s: float = FRESH_S,
        monotonic_s: Callable[[], float] = time.monotonic,
        prompt: Prompt | None = None,
    ) -> None:
        self._database = database
        self._fresh_s = fresh_s
        self._monotonic_s = monotonic_s
        self._prompt = prompt or Prompt()
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, Entitled | None]] = OrderedDict()

    def holder(self, site_id: str, serial: str) -> Site:
        """The site that may speak by this certificate. Raises `SiteRefused`, `Unavailable`."""
        found = self._entitled(serial)
        if found is None or found.site.id != site_id:
            raise SiteRefused(
                "this certificate is not on the list of the primary: join again by `mainstay replica add`"
            )
        if not found.is_good:
            raise SiteRefused(
                f"the site {found.site.name!r} was removed, or its certificate replaced:"
                " `mainstay replica add` with a new token lets it in again"
            )
        return found.site

    def known(self, site_id: str) -> Site:
        """A site that was let in before, as it was then or is by now. Raises `SiteRefused`."""
        with self._lock:
            found = [each for _, each in self._known.values() if each and each.site.id == site_id]
        if not found:
            raise SiteRefused("the site was not let in")
        return found[-1].site

    def _entitled(self, serial: str) -> Entitled | None:
        now_s = self._monotonic_s()
        with self._lock:
            known = self._known.get(serial)
        if known is not None and now_s - known[0] < self._fresh_s:
            return known[1]
        try:
            found = self._prompt.ask(f"certificate {serial}", lambda: entitled(self._database, serial))
        except Unavailable as away:
            if known is None:
                raise
            log.debug("sites.pass_remembered", because=str(away))
            found = known[1]  # and nobody else asks again at once
        with self._lock:
            self._known[serial] = (self._monotonic_s(), found)
            self._known.move_to_end(serial)
            while len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
        return found
