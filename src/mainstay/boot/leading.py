"""As primary of sites that fail over by themselves: the lease is kept, and the right replica is named.

`Lease` belongs to the process of the site. It keeps the lease in a thread (`cluster.witness.keeping`), and
takes one step a second towards a replica that may take over (`ops.sites.naming`). `leased` keeps the lease
while a node is prepared, when there is no such process yet.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from mainstay.boot import witnessing
from mainstay.boot.layout import Layout
from mainstay.boot.managed_database import server_of
from mainstay.boot.replicating import candidate, sites_with_objects, stream_of
from mainstay.boot.site_lines import Lines
from mainstay.boot.stores import Stores
from mainstay.boot.witnessing import TERMS, Whereabouts
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.identity import SiteIdentity, site_id_in
from mainstay.cluster.sites.line import Line
from mainstay.cluster.sites.positions import Positions
from mainstay.cluster.sites.registry import Site, change
from mainstay.cluster.witness.keeping import Keeper, PermitFile, Voter
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.logs import get_logger
from mainstay.foundation.retry import Schedule
from mainstay.ops.sites import naming
from mainstay.provision.postgresql import Follower, Primary, Server
from mainstay.storage.database.fence import Claim, Standing
from mainstay.storage.feed.log import Feed, FeedGone

log = get_logger()

_IN_FORCE_S: Final = 3.0
"""After this every process here waits for the objects of a site that was made active."""
_PROMISE_S_MAX: Final = 2.0
_ONCE: Final = Schedule(attempts_max=1, first_pause_s=0.1, pause_max_s=0.1)


@dataclass(frozen=True, slots=True)
class Mark:
    """All that was acknowledged before commits waited for a site is before this."""

    log: int
    feed: str
    objects: int


class LineVoter:
    """The synchronous replica, asked over the line between sites."""

    def __init__(self, site: Site, identity: SiteIdentity) -> None:
        self._line = Line(
            site.sites_address, identity, site_id=site.id, patience=_ONCE, silence_s_max=_PROMISE_S_MAX
        )

    @property
    def site_id(self) -> str:
        return self._line.site_id

    def promise(self, epoch: int) -> bool:
        with closing(self._line):
            return self._line.promise(epoch)


class Lease:
    """Of one site; for the process that leads it. `turn` once a second while it is the primary."""

    def __init__(self, stores: Stores, server: Server, lines: Lines) -> None:
        self._stores = stores
        self._lines = lines
        self._primary = Primary(server)
        self._site = SiteFile(stores.settings.data)
        self._keeper: Keeper | None = None
        self._kept: tuple[Claim, Whereabouts] | None = None
        self._standby = ""
        """Whom the witness names, or may name."""
        self._flushed = 0
        self._marks: dict[str, Mark] = {}
        self._waited_since_s: dict[str, float] = {}
        self._away_since_s: dict[str, float] = {}

    def turn(self, standing: Standing) -> None:
        """Raises `MainstayError`; then nothing was changed, and the lease is kept all the same."""
        found = witnessing.whereabouts(self._lines.reading, self._stores.settings.data)
        if found is None:
            self.rest()
            if standing.needs_lease:
                self._site.need_lease(needed=False)
            return
        keeper = self._keeping(standing.own, found)
        if keeper.may_write() and not standing.needs_lease:
            self._site.need_lease(needed=True)
        if found.is_ending:
            self._end(keeper, found)
        else:
            self._step(keeper)

    def rest(self) -> None:
        """Stop renewing: this site is not the primary any more, or stops."""
        if self._keeper is not None:
            self._keeper.close()
        self._keeper = self._kept = None
        self._standby = ""
        for each in (self._marks, self._waited_since_s, self._away_since_s):
            each.clear()

    def _keeping(self, me: Claim, found: Whereabouts) -> Keeper:
        if (
            self._keeper is None
            or self._kept is None
            or (me, found.address) != (self._kept[0], self._kept[1].address)
        ):
            self.rest()
            self._keeper = keeper_of(
                self._stores, me, found, voter=self._voter, position=lambda: self._flushed
            )
            self._kept = (me, found)
            self._keeper.start()
        return self._keeper

    def _voter(self) -> Voter | None:
        return voter_of(self._lines, self._standby)

    def _end(self, keeper: Keeper, found: Whereabouts) -> None:
        """Automatic failover was switched off: first nobody may take over, then no lease is needed."""
        if found.is_forced or keeper.name_standby(""):
            witnessing.remember(self._stores, None)
            log.info("lease.ended", is_forced=found.is_forced)

    def _step(self, keeper: Keeper) -> None:
        named = keeper.tenure.confirmed_standby
        if named:
            self._standby = named
        others = self._lines.others()
        followers = {each.site: each for each in self._primary.followers()}
        self._flushed = self._flushed_by(followers.get(stream_of(self._standby)) if self._standby else None)
        standings = self._standings(others, followers)
        step = naming.decide(standings, named=named)
        if isinstance(step, naming.Name):
            self._standby = step.site_id or self._standby
            verdict = keeper.name_standby(step.site_id)
            log.info("lease.named", standby=step.site_id, confirmed=bool(verdict), because=step.because)
        elif isinstance(step, naming.WaitFor):
            let_commits_wait(self._stores, self._primary, others, step)

    def _flushed_by(self, follower: Follower | None) -> int:
        return max(self._flushed, (follower.flushed or 0) if follower else 0)

    def _standings(
        self, others: Sequence[Site], followers: Mapping[str, Follower]
    ) -> Sequence[naming.Standing]:
        """Of all on the list, and of those that commits wait for although they are on it no more."""
        waited = set(self._primary.server.wishes.synchronous)
        with_objects = sites_with_objects(self._stores.settings)
        found = []
        for site in others:
            stream = stream_of(site.id)
            about = candidate(site, followers.get(stream), with_objects)
            is_waited_for = stream in waited
            found.append(
                naming.Standing(
                    site_id=site.id,
                    is_wanted=about.is_wanted,
                    is_waited_for=is_waited_for,
                    away_s=self._away_s(site.id, is_here=about.is_streaming),
                    has_nearly_all=about.has_caught_up,
                    has_everything=is_waited_for and self._has_everything(site, followers.get(stream)),
                )
            )
            waited.discard(stream)
            if not is_waited_for:
                self._marks.pop(site.id, None)
                self._waited_since_s.pop(site.id, None)
        strangers = [site_id_in(stream) or stream for stream in waited]
        return [
            *found,
            *(naming.Standing(site_id=each, is_wanted=False, is_waited_for=True) for each in strangers),
        ]

    def _away_s(self, site_id: str, *, is_here: bool) -> float:
        now_s = SYSTEM.monotonic_s()
        if is_here:
            self._away_since_s.pop(site_id, None)
            return 0.0
        # Never 0, which means that it is here.
        return max(0.001, now_s - self._away_since_s.setdefault(site_id, now_s))

    def _has_everything(self, site: Site, follower: Follower | None) -> bool:
        now_s = SYSTEM.monotonic_s()
        since_s = self._waited_since_s.setdefault(site.id, now_s)
        if site.state != "active":
            self._waited_since_s[site.id] = now_s
            return False
        if now_s - since_s < _IN_FORCE_S:
            return False
        layout = Layout(self._stores.settings.data)
        feed = Feed(layout.feed)
        try:
            identity, end = feed.identity, feed.end
        except FeedGone:
            return False
        mark = self._marks.get(site.id)
        if mark is None or mark.feed != identity:
            mark = self._marks[site.id] = Mark(self._primary.lsn(), identity, end)
        found = Positions(layout.sites).all().get(site.id)
        return (
            follower is not None
            and (follower.flushed or 0) >= mark.log
            and found is not None
            and found.identity == mark.feed
            and found.position >= mark.objects
        )


def let_commits_wait(stores: Stores, primary: Primary, others: Sequence[Site], step: naming.WaitFor) -> None:
    """For PostgreSQL at once; pushes wait for the objects of a site as long as it is `active`."""
    primary.set_synchronous(sorted(stream_of(each) for each in step.site_ids))
    log.info("lease.waiting_changed", sites=sorted(step.site_ids), because=step.because)
    for site in others:
        state: Literal["active", "joining"] = "active" if site.id in step.site_ids else "joining"
        if site.mode == "sync" and site.state in ("active", "joining") and site.state != state:
            change(stores.database, site.id, state=state)


def go_on_alone(stores: Stores, keeper: Keeper, *, because: str) -> bool:
    """Of a primary that starts and has no replica. False: the witness does not confirm that it names none."""
    if not keeper.name_standby(""):
        return False
    with closing(Lines(stores.settings)) as lines:
        lines.refresh()
        step = naming.WaitFor(frozenset(), because)
        let_commits_wait(stores, Primary(server_of(stores.settings.data)), lines.others(), step)
    return True


def keeper_of(
    stores: Stores,
    me: Claim,
    found: Whereabouts,
    *,
    voter: Callable[[], Voter | None],
    position: Callable[[], int],
) -> Keeper:
    """Not started yet."""
    site = SiteFile(stores.settings.data)
    return Keeper(
        me,
        witness=witnessing.open_witness(found),
        permit=PermitFile(stores.settings.data),
        voter=voter,
        position=position,
        lost=site.learn,
        terms=TERMS,
    )


@contextmanager
def leased(stores: Stores, standing: Standing) -> Iterator[Keeper | None]:
    """Keep the lease for the block. Without one the fence says so to whoever writes. None: none is needed."""
    with closing(Lines(stores.settings)) as lines:
        lines.refresh()
        found = witnessing.whereabouts(lines.reading, stores.settings.data)
        if found is None:  # switched off: the process of the site notes that
            SiteFile(stores.settings.data).need_lease(needed=False)
            yield None
            return
        keeper = keeper_of(
            stores,
            standing.own,
            found,
            voter=lambda: voter_of(lines, keeper.tenure.confirmed_standby or ""),
            position=lambda: 0,
        )
        keeper.renew()
        keeper.start()
        try:
            yield keeper
        finally:
            keeper.close()


def voter_of(lines: Lines, site_id: str) -> Voter | None:
    """The site that may vouch for us; None: it is on the list no more."""
    site = lines.by_id(site_id)
    return LineVoter(site, lines.identity) if site else None
