"""Looking before a promotion: whether it may be done, and exactly what would be lost. Changes nothing."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from mainstay.boot.managed_database import server_of
from mainstay.boot.site_lines import Lines
from mainstay.boot.stores import Stores
from mainstay.cluster.epochs.own import look_at
from mainstay.cluster.epochs.role import decide_role
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.registry import Site
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.logs import get_logger
from mainstay.git.objectnames import shown
from mainstay.ops.sites import incomplete
from mainstay.ops.sites.incomplete import Incomplete
from mainstay.ops.sites.losses import Forecast, Heard, Here, KnownPush, MovedRef, forecast
from mainstay.ops.sites.memory import Memory
from mainstay.ops.sites.promotion import Go, NotPromotable, Progress, Refuse, View, decide
from mainstay.provision.postgresql import Server, Standby
from mainstay.storage.ahead import Ahead, ahead, unknown
from mainstay.storage.database import Database
from mainstay.storage.ledger import Change

log = get_logger()

_SETTLE_S_MAX: Final = 5.0
_POLL_S: Final = 0.1


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


def plan(stores: Stores, *, is_forced: bool, to_time_ms: int | None = None) -> Plan:
    """Look at everything. Raises `Unavailable`, `NotPromotable`."""
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


def certain_plan(stores: Stores, giver: Site | None, *, because: str) -> Plan:
    """To go ahead without a look, for somebody who knows that this site has all that `giver` had."""
    return Plan(
        view=View(is_replica=True, primary=giver.name if giver else "the primary"),
        decision=Go(because),
        price=Forecast(silent_s=None, missing_bytes=0, is_zero=True, because=because),
        incomplete=(),
        is_listing_complete=True,
        primary=giver,
        progress=Memory(stores.settings.data).progress(),
    )


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
