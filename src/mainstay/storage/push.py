"""Make a push durable.

The truth is written in one order and read in the opposite order:

1. an intent names the objects that are about to be written;
2. pack, idx, rev and the prepared journal record go to the object store, side by side, in one round; where
   sites follow synchronously, they have it all when this ends (`storage.followers`);
3. one ledger transaction adds the pack to the manifest, moves the refs and consumes the intent;
4. the commit record goes to the journal;
5. only now may anybody say `ok`.

Invariant: the manifest never names a pack that is not stored.
A crash between 1 and 3 leaves orphans that the intent names, which `storage.sweep` deletes. A crash after
3 has lost nothing: `storage.journal.catch_up` writes the missing record.

While the database is away the push waits (`storage.hold`): each of its transactions may be repeated, because
the intent and the push have their ids from here. `push_id` also settles a COMMIT whose answer was lost: the
repeated transaction queues behind one that is still in flight, finds what the first did, or does it.

Not here: is the pack sound and may the actor (`repository.push`), who hears of it (`jobs`).
"""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, OutcomeUnknown, Unavailable
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.metrics import counter
from mainstay.storage import journal
from mainstay.storage.database import DatabaseAway, DatabaseCutOff
from mainstay.storage.hold import NO_HOLD, Hold, Patience
from mainstay.storage.ledger import Ledger, Push, PushOutcome, Repository
from mainstay.storage.objects import ObjectStore, StoreAway
from mainstay.storage.upload import PackFiles, Uploads

INTENT_RECORDED = declare("push.intent_recorded", "the ledger knows which objects are about to be written")
OBJECTS_STORED = declare("push.objects_stored", "pack, idx, rev and prepared record are stored")
COMMITTED = declare("push.committed", "the ledger transaction has committed; nobody was told")
JOURNALED = declare("push.journaled", "the commit record is in the journal; nobody was told")

UNKNOWN = counter("push_outcomes_unknown_total", "Pushes of which nobody could say what became of them.")

_SETTLE_ATTEMPTS = 3

log = structlog.get_logger()


class NotCommitted(Unavailable):
    """The push did not commit and cannot commit any more: it is safe to say so."""


class PushStore:
    """The only writer of pushes: objects first, then the ledger."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        objects: ObjectStore,
        clock: Clock,
        uploads: Uploads,
        hold: Hold = NO_HOLD,
    ) -> None:
        self._hold = hold
        self._ledger = ledger
        self._objects = objects
        self._clock = clock
        self._uploads = uploads

    def commit(self, push: Push, repository: Repository, packs: Sequence[PackFiles]) -> PushOutcome:
        """Make a checked push durable. Every ref not refused in the outcome has moved when this returns.

        Raises what `Ledger.push` raises; `OutcomeUnknown` only after looking for the outcome in vain.
        """
        try:
            return self._commit_objects_first(push, repository, packs)
        except OutcomeUnknown:
            UNKNOWN.inc()
            raise

    def _commit_objects_first(
        self, push: Push, repository: Repository, packs: Sequence[PackFiles]
    ) -> PushOutcome:
        patience = self._hold.patience()
        intent = self._begin(push, repository, packs, patience)
        failpoint(INTENT_RECORDED)
        prepared = journal.prepared_key(repository.uid, push.push_id)
        try:
            self._uploads.store(packs, lambda: self._prepare(push, repository), more_keys=[prepared])
            failpoint(OBJECTS_STORED)
            outcome = self._commit(replace(push, intents=(intent,)), intent, patience)
        except StoreAway:
            self._uploads.abandon(intent)  # it names everything that may be there; the sweeper deletes it
            raise
        except MainstayError:
            self._give_up(push, repository, intent)
            raise
        if outcome.version is None:
            self._give_up(push, repository, intent)
            return outcome
        self._after_commit(push, repository, outcome.version)
        return outcome

    def _begin(
        self, push: Push, repository: Repository, packs: Sequence[PackFiles], patience: Patience
    ) -> str:
        """The intent. Whether it was recorded or not, without it nothing else happens."""
        prepared = journal.prepared_key(repository.uid, push.push_id)
        try:
            return self._uploads.begin(repository, packs, prepared, hold=self._hold, patience=patience)
        except DatabaseCutOff:
            raise
        except (DatabaseAway, OutcomeUnknown) as lost:
            raise NotCommitted(f"the database was away before the push began ({lost}): push again") from lost

    def _after_commit(self, push: Push, repository: Repository, version: int) -> None:
        """From here on the push stands: whatever fails must not be told as "nothing changed"."""
        try:
            failpoint(COMMITTED)
            self._journal(repository, version)
            failpoint(JOURNALED)
        except MainstayError as failed:
            raise OutcomeUnknown(f"push {push.push_id} is committed, but {failed}") from failed
        log.info("push.committed", push_id=push.push_id, repository=repository.uid, version=version)

    def _prepare(self, push: Push, repository: Repository) -> None:
        journal.write_prepared(self._objects, repository, push, self._clock.now_ms())

    def _give_up(self, push: Push, repository: Repository, intent: str) -> None:
        """Nothing was committed and nothing will be: a rebuild should not wonder about it."""
        self._uploads.abandon(intent)
        try:
            self._objects.delete(journal.prepared_key(repository.uid, push.push_id))
        except Unavailable as away:
            log.warning("push.prepared_left", push_id=push.push_id, reason=str(away))

    def _commit(self, push: Push, intent: str, patience: Patience) -> PushOutcome:
        """The ledger transaction, again and again while the database is away.

        An attempt that answers, answers for all before it: by `push_id` it knows what they did.
        """
        is_unknown = False

        def attempt() -> PushOutcome:
            nonlocal is_unknown
            try:
                return self._ledger.push(push)
            except OutcomeUnknown as lost:
                is_unknown = True
                patience.may_leave = False
                log.warning("push.outcome_lost", push_id=push.push_id, reason=str(lost))
                raise

        try:
            return self._hold.through(attempt, on=(DatabaseAway, OutcomeUnknown), patience=patience)
        except (DatabaseAway, OutcomeUnknown) as away:
            if is_unknown:
                return self._settle(push, intent)
            if isinstance(away, DatabaseCutOff):
                raise
            raise NotCommitted(f"the database was away for too long ({away}): push again") from away
        except Unavailable as failed:
            # Another attempt may have committed: somebody in the way of this one says nothing about that.
            if is_unknown:
                raise OutcomeUnknown(f"push {push.push_id}: {failed}") from failed
            raise

    def _settle(self, push: Push, intent: str) -> PushOutcome:
        """COMMIT was sent and its answer lost: look, never guess.

        The commit deletes the intent's row. Touching that row waits for a commit still in flight; if it is
        there afterwards, that commit has failed and cannot happen any more.
        """
        for _ in range(_SETTLE_ATTEMPTS):
            try:
                outcome = (
                    None if self._uploads.is_still_open(intent) else self._ledger.outcome_of(push.push_id)
                )
            except Unavailable as away:
                log.warning("push.outcome_sought", push_id=push.push_id, reason=str(away))
                continue
            if outcome is None:
                raise NotCommitted("the database was lost before the push committed: push again")
            return outcome
        raise OutcomeUnknown(f"push {push.push_id}: the database went away during COMMIT")

    def _journal(self, repository: Repository, version: int) -> None:
        """The commit record, and those before it that are missing.

        The push is durable without it, so a store that is away does not undo it. A different record under
        the same version means that two ledgers believe they are the truth; that is not swallowed here, and
        the pusher is not told `ok`.
        """
        try:
            journal.write_up_to(self._objects, self._ledger, repository, version)
        except (Unavailable, OutcomeUnknown) as away:
            log.warning("push.journal_deferred", repository=repository.uid, version=version, reason=str(away))
