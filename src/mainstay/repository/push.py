"""The way of a push.

1. read the commands; refuse what can be refused at once (`judgement`);
2. take the pack into quarantine, indexed and checked by git (`quarantine`);
3. is everything there that the new values reach, brought or visible before (`borrowing`), and of the right
   kind (`inspection`);
4. may protected refs move this way (`access`, per ref);
5. make it durable: objects, then one ledger transaction (`storage.push`);
6. report: `ok` for what moved, `ng` for what did not (`reporting`).

Nothing outside the quarantine changes before step 5, and step 5 is the only one that cannot be taken back.

Not here: who the pusher is and what the rules are (`doors`, `product`), the write order (`storage.push`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

import structlog

from mainstay.access.policy import Deny, PushRules, RefAction, decide_ref_update, is_protected
from mainstay.cache.copies import Copies, Copy, CopyWasDamaged
from mainstay.cache.refs import RefListing, RefListings
from mainstay.foundation.errors import Conflict, Invalid, OutcomeUnknown, Unavailable
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.ids import new_ulid
from mainstay.git.native.place import Limits
from mainstay.git.native.run import GitFailed
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.git.protocol.receive import CommandReader, PushRequest
from mainstay.git.protocol.report import error_packet
from mainstay.git.protocol.services import Service
from mainstay.repository import advertisement
from mainstay.repository.borrowing import BorrowsTooMuch, Lender
from mainstay.repository.holding import Waiting
from mainstay.repository.inspection import (
    ObjectKind,
    TooDeep,
    is_ancestor,
    kinds_in_pack,
    kinds_of,
    known_tips,
    refusal_by_kind,
)
from mainstay.repository.judgement import Refusals, action_of, all_refused, first_head, refusals
from mainstay.repository.quarantine import BadPack, NoRoom, Quarantine
from mainstay.repository.reporting import Complaints, Reporter, in_order
from mainstay.repository.settings import RepositorySettings
from mainstay.repository.streams import ByteSink, ByteSource
from mainstay.repository.threads import Threads
from mainstay.repository.turns import Turns
from mainstay.repository.wants import TooLargeToSearch
from mainstay.storage.database import DatabaseCutOff
from mainstay.storage.ledger import Push, RefChange
from mainstay.storage.push import PushStore
from mainstay.storage.upload import PackFiles

CHECKED = declare("push.checked", "the push is connected and allowed; nothing was recorded")
LINKED = declare("push.linked", "committed and in the local cache; nobody was told")
REPORTED = declare("push.reported", "the report was written to the client")

_ONE_BY_ONE_MAX = 100
_JUDGED_AT_ONCE_MAX = 200
"""More commands are judged in a thread: 100,000 take two seconds, in which nobody else would be heard."""

log = structlog.get_logger()


class NotInspected(Unavailable):
    """Git failed while it looked into a pushed pack; that says nothing about the pack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushContext:
    """Where a push comes from, for the log and for the pusher's eyes."""

    address: str
    transport: str
    """`http` or `ssh`."""
    request_id: str
    messages: Sequence[str] = ()
    """Remarks that the pusher sees before the report."""


@dataclass(slots=True)
class _Push:
    """One push on its way: what it asks, and what is left of it."""

    id: str
    request: PushRequest
    listing: RefListing
    rules: PushRules
    context: PushContext
    changes: list[RefChange] = field(default_factory=list)
    refused: Refusals = field(default_factory=dict)

    @property
    def left(self) -> list[RefChange]:
        return [change for change in self.changes if change.name not in self.refused]

    @property
    def brings(self) -> list[RefChange]:
        """What is left and is no deletion: these need objects."""
        return [change for change in self.left if change.new != ZERO_OID]

    def refuse(self, reasons: Mapping[RefName, str]) -> None:
        self.refused.update(reasons)
        if self.request.is_atomic and self.refused:
            self.refused = all_refused(self.changes, self.refused)


class Receiver:
    """Serves receive-pack, stateless (HTTP) and not (SSH)."""

    def __init__(
        self,
        *,
        listings: RefListings,
        copies: Copies,
        store: PushStore,
        threads: Threads,
        settings: RepositorySettings,
    ) -> None:
        self._listings = listings
        self._copies = copies
        self._store = store
        self._threads = threads
        self._settings = settings
        # Threads of their own: a push that waits for the database in one leaves the others to fetches.
        self._committing = Threads(settings.pushes_max)
        self._waiting = Waiting(hold_s=settings.hold_s, waiting_max=settings.pushes_max)
        self._turns = Turns("pushes", turns_max=settings.pushes_max, wait_s_max=settings.wait_s_max)

    async def serve(
        self,
        repository_id: int,
        *,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        rules: PushRules,
        context: PushContext,
        seen: RefListing | None = None,
    ) -> None:
        listing = seen if seen is not None else await self._look(repository_id)
        if not stateless:
            await sink.write(advertisement.v0(Service.RECEIVE_PACK, listing, stateless=False))
        try:
            read = await _read_commands(source)
        except Invalid as wrong:
            await sink.write(error_packet(str(wrong)))
            return
        if read is None or not read[0].commands:
            return
        request, rest = read
        if len(request.commands) > _JUDGED_AT_ONCE_MAX:
            push = await self._threads.run(_begin, request, listing, rules, context)
        else:
            push = _begin(request, listing, rules, context)
        with structlog.contextvars.bound_contextvars(push_id=push.id):
            await self._answer(push, _Rest(rest, source), sink, ends=stateless)

    async def _look(self, repository_id: int) -> RefListing:
        return await self._waiting.through(lambda: self._threads.run(self._listings.latest, repository_id))

    async def _answer(self, push: _Push, source: ByteSource, sink: ByteSink, *, ends: bool) -> None:
        reporter = Reporter(sink, push.request.capabilities, keepalive_s=self._settings.keepalive_s)
        try:
            async with self._turns.turn(), reporter.alive():
                unpack = await self._receive(push, source, reporter, ends=ends)
        except (Unavailable, Conflict) as failed:
            if ends and isinstance(failed, DatabaseCutOff) and not reporter.has_spoken:
                raise  # nothing was said yet, so the balancer can ask another node
            log.warning("push.failed", reason=str(failed), kind=type(failed).__name__)
            unpack = None
            push.refuse({change.name: f"{failed}; nothing changed" for change in push.left})
        for message in push.context.messages:
            await reporter.say(message)
        await reporter.report(unpack, in_order([change.name for change in push.changes], push.refused))
        failpoint(REPORTED)

    async def _receive(
        self, push: _Push, source: ByteSource, reporter: Reporter, *, ends: bool
    ) -> str | None:
        """Steps 2 to 5. Returns why the pack is not taken, or None when it is."""
        repository_id = push.listing.repository.id
        async with self._pinned(repository_id) as copy:
            quarantine = Quarantine(push.id, copy, self._settings, self._threads)
            async with self._threads.holding(quarantine):
                refused_before = dict(push.refused)
                try:
                    packs = await self._take_pack(push, quarantine, source, reporter, ends=ends)
                except NotInspected:
                    await self._blame_our_disk(push, copy, refused_before)
                    raise
                except (BadPack, TooDeep, BorrowsTooMuch, TooLargeToSearch) as bad:
                    await self._blame_our_disk(push, copy, refused_before)
                    push.refuse({change.name: "unpacker error" for change in push.changes})
                    return str(bad)
                if push.refused != refused_before:
                    await self._blame_our_disk(push, copy, refused_before)
                failpoint(CHECKED)
                if push.left:
                    await self._committing.run_to_the_end(self._commit, push, packs)
        return None

    async def _blame_our_disk(self, push: _Push, copy: Copy, refused: Refusals) -> None:
        """A pack may be called bad, or lacking, for what is wrong with our disk: then nobody hears that.

        Raises `CopyWasDamaged` or `NoRoom`; then only what was `refused` for other reasons stays so.
        """
        verdict, push.refused = push.refused, dict(refused)
        if await self._threads.run(self._copies.was_damaged, copy):
            raise CopyWasDamaged
        if await self._threads.run(self._copies.make_room_if_short):
            raise NoRoom("this node's disk is full: try again")
        push.refused = verdict

    def _pinned(self, repository_id: int) -> AbstractAsyncContextManager[Copy]:
        """A copy of the repository; waits for the database that says what it is made of."""
        return self._waiting.entering(
            lambda: self._threads.holding(self._copies.pinned(repository_id), of=repository_id)
        )

    def close(self) -> None:
        self._committing.close()

    async def _take_pack(
        self, push: _Push, quarantine: Quarantine, source: ByteSource, reporter: Reporter, *, ends: bool
    ) -> list[PackFiles]:
        if not any(change.new != ZERO_OID for change in push.changes):
            return []
        objects = await quarantine.receive(
            source, Complaints(reporter), ends=ends, at_end=reporter.client_has_sent_everything
        )
        try:
            await self._inspect(push, quarantine, objects)
        except GitFailed as failed:
            raise NotInspected("the objects could not be looked into: push again") from failed
        if objects == 0 or not push.left:
            return []
        return [await self._threads.run(quarantine.files, push.listing.repository, objects)]

    async def _inspect(self, push: _Push, quarantine: Quarantine, objects: int) -> None:
        """Steps 3 and 4; the two git processes run side by side."""
        limits = quarantine.limits(objects)
        new = list(dict.fromkeys(change.new for change in push.brings))
        if not new:
            return
        known = known_tips(push.listing, push.changes)
        lender = Lender(
            place=quarantine.place,
            pack=quarantine.pack(),
            objects=objects,
            listing=push.listing,
            limits=limits,
            reachable_objects_max=self._settings.reachable_objects_max,
        )
        kinds, connected = await asyncio.gather(
            self._threads.run(_kinds, quarantine, new, limits=limits),
            self._threads.run(lender.is_whole, new, known=known),
        )
        push.refuse(_refused_by_kind(push.brings, kinds))
        # A shallow client is welcome as long as what it lacks is here: so its shallow lines are not needed.
        if not connected:
            push.refuse(await self._threads.run(_refused_as_broken, push.brings, lender, known))
        if push.rules.branches or push.rules.tags:
            push.refuse(await self._threads.run(_refused_as_forced, push, quarantine, objects))
        push.changes = [_peeled(change, kinds) for change in push.changes]

    def _commit(self, push: _Push, packs: Sequence[PackFiles]) -> None:
        """Step 5, and the pack into this node's cache. Blocks."""
        outcome = self._store.commit(_for_ledger(push, packs), push.listing.repository, packs)
        push.refuse(outcome.refused)
        if outcome.version is not None:
            self._adopt(packs)
            _pass_linked(push)

    def _adopt(self, packs: Sequence[PackFiles]) -> None:
        """A cache that cannot take the pack now fetches it later: the push is done all the same."""
        try:
            for each in packs:
                self._copies.packs.adopt(each.pack.id, each.files)
        except OSError as failed:
            log.warning("push.not_cached", reason=str(failed))


def _pass_linked(push: _Push) -> None:
    """The push stands: even an armed error here may not become an `ng`."""
    try:
        failpoint(LINKED)
    except Unavailable as failed:
        raise OutcomeUnknown(f"push {push.id} is committed, but {failed}") from failed


class _Rest:
    """The source after the commands: first what was read too far, then the rest."""

    def __init__(self, first: bytes, source: ByteSource) -> None:
        self._first = first
        self._source = source

    async def read(self) -> bytes:
        first, self._first = self._first, b""
        return first or await self._source.read()


async def _read_commands(source: ByteSource) -> tuple[PushRequest, bytes] | None:
    """The commands and options of a push, and the beginning of its pack.

    None when the client ended before it had said them. Raises `Invalid`.
    """
    reader = CommandReader()
    while True:
        chunk = await source.read()
        if not chunk:
            if not reader.is_untouched:
                log.info("push.cut_off")
            return None
        request = reader.feed(chunk)
        if request is not None:
            return request, reader.take_rest()


def _begin(request: PushRequest, listing: RefListing, rules: PushRules, context: PushContext) -> _Push:
    push = _Push(new_ulid(), request, listing, rules, context)
    push.changes = [RefChange(command.name, command.old, command.new) for command in request.commands]
    push.refused = refusals(push.changes, listing=listing, rules=rules, atomic=request.is_atomic)
    return push


def _kinds(quarantine: Quarantine, new: Sequence[Oid], *, limits: Limits) -> dict[Oid, ObjectKind]:
    """What the new values are: read off the pack where that is possible, else asked from git."""
    kinds = kinds_in_pack(quarantine.pack(), new)
    return kinds | kinds_of(quarantine.place, [oid for oid in new if oid not in kinds], limits=limits)


def _refused_by_kind(changes: Sequence[RefChange], kinds: Mapping[Oid, ObjectKind]) -> Refusals:
    reasons = {change.name: refusal_by_kind(change.name, kinds.get(change.new)) for change in changes}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _refused_as_broken(changes: Sequence[RefChange], lender: Lender, known: Sequence[Oid]) -> Refusals:
    """Something is missing: find out for whom, unless there are too many to ask one by one."""
    if len(changes) > _ONE_BY_ONE_MAX:
        return {change.name: "missing necessary objects" for change in changes}
    return {
        change.name: "missing necessary objects"
        for change in changes
        if not lender.is_whole([change.new], known=known)
    }


def _refused_as_forced(push: _Push, quarantine: Quarantine, objects: int) -> Refusals:
    """Only a protected ref needs to know whether it is fast-forwarded. Judged per ref, nothing remembered."""
    refused = {}
    for change in push.brings:
        if action_of(change) is not RefAction.UPDATE or not is_protected(change.name, push.rules):
            continue
        limits = quarantine.limits(objects)
        if not is_ancestor(quarantine.place, change.old, change.new, limits=limits):
            decision = decide_ref_update(change.name, RefAction.FORCE, push.rules)
            if isinstance(decision, Deny):
                refused[change.name] = decision.because
    return refused


def _peeled(change: RefChange, kinds: Mapping[Oid, ObjectKind]) -> RefChange:
    found = kinds.get(change.new)
    return replace(change, peeled=found.peeled) if found is not None and found.peeled else change


def _for_ledger(push: _Push, packs: Sequence[PackFiles]) -> Push:
    return Push(
        push_id=push.id,
        repository_id=push.listing.repository.id,
        actor=push.rules.actor.label,
        changes=push.left,
        prune_epoch=push.listing.repository.prune_epoch,
        packs=[each.pack for each in packs],
        atomic=push.request.is_atomic,
        repeatable=True,
        head=first_head(push.listing, push.left),
        details={
            "address": push.context.address,
            "transport": push.context.transport,
            "request_id": push.context.request_id,
            "options": [option.decode("utf-8", "backslashreplace") for option in push.request.options],
        },
    )
