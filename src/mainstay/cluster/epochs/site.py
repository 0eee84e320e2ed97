"""`DATA/site.json`: who this site is, and the highest epoch that it has ever seen.

Replaced whole and synced, for the owner only; changed under a lock of its own, so that of two processes that
learn something at the same time neither forgets what the other has learned. The highest epoch never falls.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mainstay.foundation.errors import Unavailable
from mainstay.foundation.file_locks import held
from mainstay.foundation.ids import is_ulid, new_ulid
from mainstay.foundation.logs import get_logger
from mainstay.foundation.private_files import replace_file
from mainstay.storage.database.fence import SITE_FILE, Claim, Standing, Unreadable, standing_in, standing_text

log = get_logger()


class SiteUnreadable(Unavailable):
    """What is kept of this site is not readable. Nothing is written until it is."""


def newer(one: Claim, other: Claim, *, me: str) -> Claim:
    """Which of two claims counts. Of two with one number, that of another site: two have promoted at once."""
    if one.epoch != other.epoch:
        return max(one, other, key=lambda claim: claim.epoch)
    return other if one.site_id == me and other.site_id else one


@dataclass(frozen=True, slots=True)
class SiteFile:
    """The file in the data directory `data`."""

    data: Path

    def read(self) -> Standing | None:
        """None: there are no sites. Raises `SiteUnreadable`."""
        try:
            return standing_in(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, Unreadable) as error:
            raise SiteUnreadable(f"{self._path}: {error}") from error

    def ensure(self, site_id: str | None = None) -> Standing:
        """Make the file when there is none: under a fresh identity, or as one more node of `site_id`."""
        assert site_id is None or is_ulid(site_id), "a site is named by a ULID"

        def made(found: Standing | None) -> Standing:
            return found or Standing(site_id or new_ulid(), Claim(), Claim())

        return self._change(made)

    def learn(self, seen: Claim) -> Standing:
        """Raise the highest epoch seen. Nothing is forgotten by it, and repeating it changes nothing."""

        def learned(found: Standing | None) -> Standing:
            standing = _present(found)
            return replace(standing, highest=newer(standing.highest, seen, me=standing.site_id))

        return self._change(learned)

    def record(self, own: Claim, *, is_replica: bool) -> Standing:
        """What the site's own database says now. It counts as seen."""

        def recorded(found: Standing | None) -> Standing:
            standing = _present(found)
            highest = newer(standing.highest, own, me=standing.site_id)
            return replace(standing, own=own, highest=highest, is_replica=is_replica)

        return self._change(recorded)

    def need_lease(self, needed: bool) -> Standing:
        """Whether writing needs a lease from now on: automatic failover is on."""
        return self._change(lambda found: replace(_present(found), needs_lease=needed))

    @property
    def _path(self) -> Path:
        return self.data / SITE_FILE

    def _change(self, change: Callable[[Standing | None], Standing]) -> Standing:
        with held(self.data / "site.lock"):  # for one change of a small file: nobody waits long
            found = self.read()
            changed = change(found)
            if changed != found:
                replace_file(self._path, standing_text(changed), durable=True)
                log.info(
                    "epochs.site_changed",
                    own=changed.own.epoch,
                    highest=changed.highest.epoch,
                    highest_site=changed.highest.name or changed.highest.site_id,
                    is_replica=changed.is_replica,
                    needs_lease=changed.needs_lease,
                )
            return changed


def _present(found: Standing | None) -> Standing:
    if found is None:
        raise SiteUnreadable("this node belongs to no site yet")
    return found
