"""From a plan of promotion (`boot.promotion_plan`) to a primary.

The steps are those of `ops.sites.promotion`, each idempotent; `Progress` is written after each, so the same
command goes on where a kill left it. Until `epoch` is done the fence refuses every write here, so nobody can
push between the steps; from then on writes go through, and an old primary that hears of it refuses them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mainstay.boot.addresses import http_url
from mainstay.boot.managed_database import server_of
from mainstay.boot.promotion_plan import Plan, certain_plan, project_names
from mainstay.boot.replicating import keep_up, let_others_catch_up
from mainstay.boot.settings import NodeSettings, traffic_of
from mainstay.boot.sites import site_name
from mainstay.boot.stores import Stores
from mainstay.boot.witnessing import arbiter_of
from mainstay.cluster.epochs.raising import Arbiter, raise_epoch
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.registry import Site
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.logs import get_logger
from mainstay.ops.maintenance import switch
from mainstay.ops.sites import incomplete
from mainstay.ops.sites.incomplete import Incomplete
from mainstay.ops.sites.memory import Memory
from mainstay.ops.sites.promotion import NotPromotable, Progress, Refuse, Step
from mainstay.ops.traffic.announcing import Facts, Outcome, announce
from mainstay.provision.postgresql import Standby
from mainstay.storage.ahead import ahead
from mainstay.storage.database import Database
from mainstay.storage.database.opening import open_database
from mainstay.storage.journal import commit_key
from mainstay.storage.ledger.regain import NotRegained, regain
from mainstay.storage.ledger.sql import SqlLedger

log = get_logger()

STEPPED: Final = {
    step: declare(f"promotion.{step}", f"a promotion has done its step `{step}`, and noted it")
    for step in ("begun", "database", "protected", "epoch", "followers", "released", "announced")
}
_PROMOTE_S_MAX: Final = 60.0
_REPLAY_S_MAX: Final = 3600.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """What came of it."""

    epoch: int
    took_s: float
    incomplete: Sequence[Incomplete]
    regained: int
    """Pushes that came back from the journal."""
    announced: Sequence[Outcome]
    reached_ms: int | None


def carry_out(
    stores: Stores,
    made: Plan,
    *,
    tell: Tell,
    to_time_ms: int | None = None,
    witness: Arbiter | None = None,
    is_planned: bool = False,
) -> Promoted:
    """Make this site the primary, whatever of it is done already. Raises `NotPromotable`, `Superseded`, …"""
    if isinstance(made.decision, Refuse):
        raise NotPromotable(made.decision.because)
    with Memory(stores.settings.data).one_promotion():
        return _Promotion(stores, made, tell=tell, witness=witness, is_planned=is_planned).run(to_time_ms)


def take_over(stores: Stores, giver: Site) -> Promoted:
    """Become the primary because `giver` has handed over to us: nothing is missing here."""
    made = certain_plan(stores, giver, because=f"{giver.name} has handed over")
    return carry_out(stores, made, tell=_log, witness=arbiter_of(stores), is_planned=True)


def take_over_from_silent(stores: Stores, silent: Site | None, witness: Arbiter, *, because: str) -> Promoted:
    """Become the primary because the witness names us: `silent` does not renew, and we have all it had."""
    return carry_out(stores, certain_plan(stores, silent, because=because), tell=_log, witness=witness)


def _log(line: str) -> None:
    log.info("promotion.told", says=line)


class _Promotion:
    """One run of the steps."""

    def __init__(
        self, stores: Stores, made: Plan, *, tell: Tell, witness: Arbiter | None, is_planned: bool
    ) -> None:
        self._stores = stores
        self._settings: NodeSettings = stores.settings
        self._memory = Memory(stores.settings.data)
        self._server = server_of(stores.settings.data)
        self._plan = made
        self._tell = tell
        self._witness = witness
        self._is_planned = is_planned
        self._began_s = SYSTEM.monotonic_s()
        self._announced: Sequence[Outcome] = ()
        self._regained = 0
        under_way = made.progress if made.progress is not None and made.progress.is_under_way else None
        self._progress = under_way or _fresh(made)

    def run(self, to_time_ms: int | None) -> Promoted:
        self._note("begun")
        self._do("database", lambda: self._promote_database(to_time_ms))
        unfenced = open_database(self._settings.database_url)
        try:
            self._do("protected", lambda: self._protect(unfenced))
            self._do("epoch", lambda: self._raise(unfenced))
            self._do("followers", lambda: self._welcome_followers(unfenced))
            self._do("released", lambda: self._release(unfenced))
            self._do("announced", self._announce)
            left = self._left_incomplete(unfenced)
        finally:
            unfenced.close()
        took_s = SYSTEM.monotonic_s() - self._began_s
        log.info("promotion.finished", epoch=self._epoch(), took_s=round(took_s, 1), incomplete=len(left))
        return Promoted(
            epoch=self._epoch(),
            took_s=took_s,
            incomplete=left,
            regained=self._regained,
            announced=self._announced,
            reached_ms=self._progress.reached_ms,
        )

    def _do(self, step: Step, work: Callable[[], None]) -> None:
        if step not in self._progress.done:
            work()
            self._note(step)

    def _note(self, step: Step) -> None:
        self._progress = self._progress.with_done(step)
        self._memory.note_progress(self._progress)
        log.info("promotion.stepped", step=step)
        failpoint(STEPPED[step])

    def _promote_database(self, to_time_ms: int | None) -> None:
        standby = Standby(self._server)
        if to_time_ms is not None and self._server.is_in_recovery():
            self._tell("the database is replayed up to the wished moment")
            reached = standby.replay_until(to_time_ms, within_s=_REPLAY_S_MAX)
            self._progress = _with_reached(self._progress, reached.last_commit_ms)
        standby.promote(within_s=_PROMOTE_S_MAX)
        self._tell("the database takes writes")

    def _protect(self, unfenced: Database) -> None:
        """Bring back what the journal has, then close what is not whole. Nobody can push yet."""
        ledger = SqlLedger(unfenced, SYSTEM)
        if self._progress.reached_ms is None:  # else the journal is ahead because somebody wished it so
            self._regain(ledger, unfenced)
        self._set_aside(ledger, unfenced)
        missing = incomplete.missing_objects(unfenced, self._stores.objects)
        behind = incomplete.behind_journal(ledger, self._stores.objects)
        incomplete.close(ledger, {*missing, *behind})
        self._memory.note_incomplete(sorted({*missing, *behind}))
        self._tell(f"{len({*missing, *behind})} repositories are read-only, the others are whole")

    def _regain(self, ledger: SqlLedger, unfenced: Database) -> None:
        for each in ahead(ledger, unfenced, self._stores.objects):
            if not each.regainable:
                continue
            try:
                regain(unfenced, each.repository_id, each.regainable)
            except NotRegained as error:
                log.warning("promotion.push_not_regained", repository=each.uid, because=str(error))
            else:
                self._regained += len(each.regainable)
                log.info("promotion.pushes_regained", repository=each.uid, count=len(each.regainable))

    def _set_aside(self, ledger: SqlLedger, unfenced: Database) -> None:
        """Records of pushes that stay lost make room for those that will have their numbers. They are kept in
        `DATA/sites/lost`, to be read by people.
        """
        for each in ahead(ledger, unfenced, self._stores.objects):
            for change in reversed(each.changes):
                key = commit_key(each.uid, change.version)
                self._memory.keep_lost(
                    f"{each.uid}-{change.version:012d}.json", self._stores.objects.get_bytes(key)
                )
                self._stores.objects.delete(key)
                log.warning("promotion.push_lost", repository=each.uid, version=change.version)

    def _raise(self, unfenced: Database) -> None:
        raise_epoch(
            SiteFile(self._settings.data),
            unfenced,
            self._stores.objects,
            name=site_name(self._settings),
            url=http_url(self._settings),
            clock=SYSTEM,
            witness=self._witness,
        )
        self._tell(f"this site has epoch {self._epoch()}")

    def _welcome_followers(self, unfenced: Database) -> None:
        """The process of the site lets them in again every second; a promotion does not fail by that."""
        standing = SiteFile(self._settings.data).ensure()
        let_others_catch_up(unfenced, standing.site_id, old_primary=self._progress.old_primary)
        try:
            keep_up(self._stores, self._server)
        except (MainstayError, OutcomeUnknown) as failed:
            log.warning("promotion.followers_later", because=str(failed))

    def _release(self, unfenced: Database) -> None:
        """A planned failover held the writes of the old primary; the hold came over with its database."""
        switch.release(unfenced)

    def _announce(self) -> None:
        facts = Facts(
            epoch=self._epoch(),
            site=site_name(self._settings),
            site_address=http_url(self._settings),
            old_primary=self._progress.old_primary,
            old_primary_address=self._progress.old_primary_address,
            is_planned=self._is_planned,
        )
        self._announced = announce("promote", facts, traffic=traffic_of(self._settings))

    def _left_incomplete(self, unfenced: Database) -> Sequence[Incomplete]:
        ledger, left = SqlLedger(unfenced, SYSTEM), self._memory.incomplete()
        if not left:
            return ()
        missing = incomplete.missing_objects(unfenced, self._stores.objects)
        behind = incomplete.behind_journal(ledger, self._stores.objects)
        return incomplete.listed(missing, behind, project_names(ledger, {*missing, *behind}))

    def _epoch(self) -> int:
        standing = SiteFile(self._settings.data).read()
        return standing.own.epoch if standing else 0


def _fresh(made: Plan) -> Progress:
    primary = made.primary
    return Progress(
        started_ms=SYSTEM.now_ms(),
        old_primary=primary.name if primary else "",
        old_primary_address=primary.url if primary else "",
    )


def _with_reached(progress: Progress, reached_ms: int | None) -> Progress:
    return replace(progress, reached_ms=reached_ms or 0)
