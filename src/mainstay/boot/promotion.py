"""`mainstay promote`: from what is seen to a plan with its price, and from the plan to a primary.

The steps are those of `ops.sites.promotion`, each idempotent; `Progress` is written after each, so the same
command goes on where a kill left it. Until `epoch` is done the fence refuses every write here, so nobody can
push between the steps; from then on writes go through, and an old primary that hears of it refuses them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from mainstay.boot.addresses import http_url
from mainstay.boot.managed_database import server_of
from mainstay.boot.replicating import keep_up, let_others_catch_up
from mainstay.boot.settings import NodeSettings, traffic_of
from mainstay.boot.site_lines import Lines
from mainstay.boot.sites import site_name
from mainstay.boot.stores import Stores
from mainstay.boot.witnessing import arbiter_of
from mainstay.cluster.epochs.own import look_at
from mainstay.cluster.epochs.raising import Arbiter, raise_epoch
from mainstay.cluster.epochs.role import decide_role
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.registry import Site
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.logs import get_logger
from mainstay.git.objectnames import shown
from mainstay.ops.maintenance import switch
from mainstay.ops.sites import incomplete
from mainstay.ops.sites.incomplete import Incomplete
from mainstay.ops.sites.losses import Forecast, Heard, Here, KnownPush, MovedRef, forecast
from mainstay.ops.sites.memory import Memory
from mainstay.ops.sites.promotion import Go, NotPromotable, Progress, Refuse, Step, View, decide
from mainstay.ops.traffic.announcing import Facts, Outcome, announce
from mainstay.provision.postgresql import Server, Standby
from mainstay.storage.ahead import Ahead, ahead, unknown
from mainstay.storage.database import Database
from mainstay.storage.database.opening import open_database
from mainstay.storage.journal import commit_key
from mainstay.storage.ledger import Change
from mainstay.storage.ledger.regain import NotRegained, regain
from mainstay.storage.ledger.sql import SqlLedger

log = get_logger()

STEPPED: Final = {
    step: declare(f"promotion.{step}", f"a promotion has done its step `{step}`, and noted it")
    for step in ("begun", "database", "protected", "epoch", "followers", "released", "announced")
}
_PROMOTE_S_MAX: Final = 60.0
_REPLAY_S_MAX: Final = 3600.0
_SETTLE_S_MAX: Final = 5.0
_POLL_S: Final = 0.1

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was seen, what it would cost, and whether it may be done."""

    view: View
    decision: Go | Refuse
    price: Forecast
    incomplete: Sequence[Incomplete]
    """Repositories that would be read-only at first."""
    is_listing_complete: bool
    primary: Site | None
    progress: Progress | None


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


def plan(stores: Stores, *, is_forced: bool, to_time_ms: int | None = None) -> Plan:
    """Look at everything. Changes nothing. Raises `Unavailable`, `NotPromotable`."""
    memory, lines = Memory(stores.settings.data), Lines(stores.settings)
    with closing(lines):
        lines.refresh()
        view, primary = _view(stores, memory, lines, is_forced=is_forced)
        decision = decide(view)
        price, lacking, complete = _price(stores, memory, lines, to_time_ms=to_time_ms)
    return Plan(
        view=view,
        decision=decision,
        price=price,
        incomplete=lacking,
        is_listing_complete=complete,
        primary=primary,
        progress=memory.progress(),
    )


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
    because = f"{giver.name} has handed over"
    made = Plan(
        view=View(is_replica=True, primary=giver.name),
        decision=Go(because),
        price=Forecast(silent_s=None, missing_bytes=0, is_zero=True, because=because),
        incomplete=(),
        is_listing_complete=True,
        primary=giver,
        progress=Memory(stores.settings.data).progress(),
    )
    return carry_out(
        stores,
        made,
        tell=lambda line: log.info("promotion.told", says=line),
        witness=arbiter_of(stores),
        is_planned=True,
    )


def take_over_from_silent(stores: Stores, silent: Site | None, witness: Arbiter, *, because: str) -> Promoted:
    """Become the primary because the witness names us: `silent` does not renew, and we have all it had."""
    made = Plan(
        view=View(is_replica=True, primary=silent.name if silent else "the primary"),
        decision=Go(because),
        price=Forecast(silent_s=None, missing_bytes=0, is_zero=True, because=because),
        incomplete=(),
        is_listing_complete=True,
        primary=silent,
        progress=Memory(stores.settings.data).progress(),
    )
    tell = lambda line: log.info("promotion.told", says=line)  # noqa: E731 - one line
    return carry_out(stores, made, tell=tell, witness=witness)


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


# Looking
def _view(stores: Stores, memory: Memory, lines: Lines, *, is_forced: bool) -> tuple[View, Site | None]:
    standing = SiteFile(stores.settings.data).read()
    if standing is None:
        raise NotPromotable("there are no other sites: this node is the only one, and takes writes")
    found = _own(stores.settings.database_url)
    in_recovery = found.in_recovery if found else standing.is_replica
    own = found.reign.claim if found else standing.own
    role = decide_role(
        site_id=standing.site_id, in_recovery=in_recovery, own=own, highest=standing.highest
    ).role
    primary, me = lines.by_id(standing.highest.site_id), lines.me()
    heard, progress = memory.heard(), memory.progress()
    silent_s = (SYSTEM.now_ms() - heard.at_ms) / 1000 if heard else None
    view = View(
        is_replica=role == "replica",
        is_primary=role == "primary",
        is_superseded=role == "superseded",
        kind=me.kind if me else "replica",
        primary=primary.name if primary else "the primary",
        primary_answers=primary is not None and _answers(lines, primary),
        primary_silent_s=silent_s,
        was_begun=progress is not None and progress.is_under_way,
        is_forced=is_forced,
    )
    return view, primary


def _own(url: str) -> Any:
    look = look_at(url)
    with closing(look):
        return look()


def _answers(lines: Lines, primary: Site) -> bool:
    """Whether it does what a primary does: one that is fenced, or a replica by now, does not."""
    try:
        return lines.to(primary).facts().get("role") == "primary"
    except MainstayError as away:
        log.debug("promotion.primary_silent", because=str(away))
        return False


def _price(
    stores: Stores, memory: Memory, lines: Lines, *, to_time_ms: int | None
) -> tuple[Forecast, Sequence[Incomplete], bool]:
    server = server_of(stores.settings.data)
    here, complete = _here(stores, memory.heard(), lines, server, to_time_ms=to_time_ms)
    missing = incomplete.missing_objects(stores.database, stores.objects)
    names = project_names(stores.ledger, {*missing})
    return forecast(memory.heard(), here), incomplete.listed(missing, (), names), complete


def _here(
    stores: Stores, heard: Heard | None, lines: Lines, server: Server, *, to_time_ms: int | None
) -> tuple[Here, bool]:
    received, replayed, last_commit_ms = _log_here(server, heard)
    found = ahead(stores.ledger, stores.database, stores.objects)
    more = unknown(stores.ledger, stores.objects)
    me = lines.me()
    pushes = [push for each in found for push in _pushes_of(stores, each)]
    pushes += [
        KnownPush(
            repository_id=each.push.repository_id,
            project=_project(stores, each.push.repository_id),
            version=0,
            push_id=each.push.push_id,
            person=_person(stores.database, each.push.actor),
            at_ms=each.at_ms,
            refs=[MovedRef(name=shown(move.name), oid=move.new) for move in each.push.changes],
        )
        for each in more.prepared
        if each.push.push_id not in {push.push_id for push in pushes}
    ]
    pushes += [_push_of(stores, birth, is_recoverable=False) for birth in more.born]
    if to_time_ms is not None:  # what was before comes by the log, what was after is to be undone
        pushes = [replace(push, is_recoverable=push.at_ms <= to_time_ms) for push in pushes]
    here = Here(
        now_ms=SYSTEM.now_ms(),
        received=received,
        replayed=replayed,
        last_commit_ms=last_commit_ms,
        pushes=pushes,
        has_last_push=_has_last_push(stores, heard),
        is_listed_sync=me is not None and me.is_waited_for,
    )
    return here, more.is_complete


def _log_here(server: Server, heard: Heard | None) -> tuple[int, int, int | None]:
    """Received, replayed, last commit; a moment is waited for what is here to be replayed."""
    if not server.is_in_recovery():  # a promotion that goes on: what was missing was said the first time
        known = (heard.wal if heard else None) or 0
        return known, known, None
    standby, until_s = Standby(server), SYSTEM.monotonic_s() + _SETTLE_S_MAX
    while True:
        lag = standby.lag()
        if lag.replayed >= lag.received or server.wishes.delay_s or SYSTEM.monotonic_s() > until_s:
            return lag.received, lag.replayed, lag.last_commit_ms
        time.sleep(_POLL_S)


def _has_last_push(stores: Stores, heard: Heard | None) -> bool:
    if heard is None or heard.last_push is None:
        return True
    with stores.database.read() as tx:
        row = tx.row("SELECT version FROM ledger_repository WHERE id = ?", (heard.last_push.repository_id,))
    return row is not None and int(row[0]) >= heard.last_push.version


def _pushes_of(stores: Stores, found: Ahead) -> list[KnownPush]:
    good = {change.version for change in found.regainable}
    return [_push_of(stores, change, is_recoverable=change.version in good) for change in found.changes]


def _push_of(stores: Stores, change: Change, *, is_recoverable: bool) -> KnownPush:
    return KnownPush(
        repository_id=change.repository_id,
        project=str((change.identity or {}).get("full_path") or _project(stores, change.repository_id)),
        version=change.version,
        push_id=change.push_id or "",
        person=_person(stores.database, change.actor),
        at_ms=change.at_ms,
        refs=[MovedRef(name=shown(move.name), oid=move.new) for move in change.refs],
        is_recoverable=is_recoverable,
    )


def project_names(ledger: Any, ids: set[int]) -> Mapping[int, str]:
    """By repository, as their identity has it."""
    found = {}
    for repository_id in ids:
        try:
            identity = ledger.repository(repository_id).identity
        except MainstayError:
            continue
        found[repository_id] = str(identity.get("full_path") or f"repository {repository_id}")
    return found


def _project(stores: Stores, repository_id: int) -> str:
    return project_names(stores.ledger, {repository_id}).get(repository_id, f"repository {repository_id}")


def _person(database: Database, actor: str) -> str:
    """The user name, where the actor is a person."""
    kind, _, number = actor.partition(":")
    if kind != "user" or not number.isdigit():
        return actor
    with database.read() as tx:
        row = tx.row("SELECT username FROM accounts_user WHERE id = ?", (int(number),))
    return str(row[0]) if row else actor
