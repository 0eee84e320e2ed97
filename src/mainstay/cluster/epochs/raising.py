"""Give a site the next epoch: the one step of a promotion that decides who may write.

In this order, each step idempotent for the same site and refused when another has the number:

1. the witness, where there is one, because it decides between two that promote at the same moment;
2. the marker in the object store;
3. the row in the database, which must take writes by now;
4. `DATA/site.json`, from which on the site's processes write.

A crash in between leaves a number that nobody uses: an old primary that has seen it stays fenced, and the
site that took it finishes when it is told to once more. The database comes late, so that a refusal leaves it
as it was.
"""

from typing import Final, Protocol

from mainstay.cluster.epochs import Superseded
from mainstay.cluster.epochs.markers import highest_marker, put_marker
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.epochs.table import NOBODYS, Reign, epoch_of, write_epoch
from mainstay.foundation.clock import Clock
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import Database
from mainstay.storage.database.fence import Claim
from mainstay.storage.objects import ObjectStore

log = get_logger()

WITNESSED: Final = declare("epochs.witnessed", "the witness has named this site; nothing else knows")
MARKED: Final = declare("epochs.marked", "the epoch's marker is in the object store, not in the database")
WRITTEN: Final = declare(
    "epochs.written", "the database has the epoch; this site's processes do not know yet"
)


class Arbiter(Protocol):
    """The witness, as a promotion sees it. Made by `cluster.witness.arbiter`."""

    def last(self) -> Claim | None:
        """Whom it named last; None: nobody yet. Raises `Unavailable`."""
        ...

    def name(self, claim: Claim) -> None:
        """Let it name this site under this epoch. Raises `Superseded`, `Unavailable`."""
        ...


def raise_epoch(
    site: SiteFile,
    database: Database,
    objects: ObjectStore,
    *,
    name: str,
    url: str,
    clock: Clock,
    witness: Arbiter | None = None,
    again: bool = False,
) -> Reign:
    """Make this site the primary. `database` must be one without a fence, and take writes.

    Repeating it finishes what was begun, or changes nothing. `again` takes a further number although this
    site has the highest. Raises `Superseded` when another site was quicker.
    """
    standing = site.ensure()
    claims = [standing.highest, epoch_of(database).claim, highest_marker(objects) or Claim()]
    claims += [(witness.last() if witness else None) or Claim()]
    claim = Claim(_next(claims, me=standing.site_id, again=again), standing.site_id, name, url)
    since_ms = clock.now_ms()
    if witness is not None:
        witness.name(claim)
        failpoint(WITNESSED)
    put_marker(objects, claim, since_ms=since_ms)
    failpoint(MARKED)
    reign = write_epoch(database, claim, since_ms=since_ms)
    failpoint(WRITTEN)
    _stand(site.record(claim, is_replica=False).highest, claim)
    log.info("epochs.raised", epoch=claim.epoch, site=name)
    return reign


def _next(claims: list[Claim], *, me: str, again: bool) -> int:
    """The highest number if only this site claims it, else the one after it."""
    top = max(claim.epoch for claim in claims)
    is_mine = top > 0 and all(claim.site_id == me for claim in claims if claim.epoch == top)
    return top if is_mine and not again else top + 1


def _stand(highest: Claim, claim: Claim) -> None:
    if (highest.epoch, highest.site_id) != (claim.epoch, claim.site_id):
        raise Superseded(
            f"epoch {claim.epoch}: {highest.name or highest.site_id!r} has epoch {highest.epoch}"
        )


def found_site(
    site: SiteFile,
    database: Database,
    objects: ObjectStore,
    *,
    name: str,
    url: str,
    clock: Clock,
) -> Reign:
    """What a primary does before its first replica: give itself an identity and the first epoch.

    A node of a site that has one already joins it. `database` is one without a fence.
    """
    reign = epoch_of(database)
    if reign != NOBODYS:
        site.ensure(reign.claim.site_id)
        site.record(reign.claim, is_replica=False)
        return reign
    return raise_epoch(site, database, objects, name=name, url=url, clock=clock)
