"""The commit of a push: the one transaction that makes it true.

1. lock the row of the repository: writers of one repository queue here, and see what the one before did;
2. look at what the push expects, and judge it (`judge`, a pure function);
3. consume the upload intents: from here on the sweeper cannot touch the objects;
4. move refs, name packs, append the change, choose HEAD, put one event into the outbox.

When nothing moves nothing is written. The caller's COMMIT is the linearization point.
"""

from dataclasses import replace

from mainstay.foundation.failpoints import declare, failpoint
from mainstay.git.objectnames import RefName, ref_name, shown
from mainstay.storage.database import Transaction, expect_long_rests
from mainstay.storage.ledger import (
    EpochMoved,
    NotWritable,
    Push,
    PushIdTaken,
    PushOutcome,
    Repository,
    judge,
    log,
    manifest,
    outbox,
    refs,
    uploads,
)
from mainstay.storage.ledger.repositories import lock

APPLIED = declare("ledger.push_applied", "all rows of a push are written, nothing is committed")


def commit(tx: Transaction, push: Push, at_ms: int) -> PushOutcome:
    """Judge and write the push; the end of the transaction commits it."""
    if len(push.changes) > log.MANY_REFS:
        expect_long_rests(tx)
    row = lock(tx, push.repository_id)
    if (first := outcome_of(tx, push)) is not None:
        return first
    _refuse_stale(push, row.repository)
    present = refs.seen_by(tx, push.repository_id, push.changes)
    judgement = judge.judge(push.changes, present, atomic=push.atomic, repeatable=push.repeatable)
    if not judgement.moves:
        return PushOutcome(None, judgement.refused)
    uploads.consume(tx, push.repository_id, push.intents)
    refs.apply(tx, push.repository_id, judgement.moves)
    head = _new_head(tx, row.repository, push)
    version = row.repository.version + 1
    log.append(
        tx,
        row,
        kind="push",
        push_id=push.push_id,
        actor=push.actor,
        at_ms=at_ms,
        after=row.repository if head is None else replace(row.repository, head=head),
        refs=judgement.moves,
        packs_added=manifest.add(tx, push.repository_id, push.packs, version),
        head=head,
        details=_details(push, judgement),
    )
    payload = {"repository_id": push.repository_id, "version": version, "push_id": push.push_id}
    outbox.add(tx, "push", payload, at_ms)
    failpoint(APPLIED)
    return PushOutcome(version, judgement.refused)


def outcome_of(tx: Transaction, push: Push) -> PushOutcome | None:
    """What this push did already. Another repository's push of the same id is a mistake of the caller."""
    found = log.details_of_push(tx, push.push_id)
    if found is not None and found[0] != push.repository_id:
        raise PushIdTaken(f"push {push.push_id} belongs to repository {found[0]}")
    return outcome_with_id(tx, push.push_id)


def outcome_with_id(tx: Transaction, push_id: str) -> PushOutcome | None:
    found = log.details_of_push(tx, push_id)
    if found is None:
        return None
    _, version, details = found
    return PushOutcome(version, {ref_name(name): why for name, why in details.get("refused", {}).items()})


def _refuse_stale(push: Push, repository: Repository) -> None:
    if repository.write_state != "writable":
        raise NotWritable(f"repository {repository.id} is read-only at the moment")
    if repository.prune_epoch != push.prune_epoch:
        raise EpochMoved(f"validated in epoch {push.prune_epoch}, now it is {repository.prune_epoch}")


def _new_head(tx: Transaction, repository: Repository, push: Push) -> RefName | None:
    """The push's choice, if HEAD points nowhere now and the choice exists now."""
    if push.head is None or push.head == repository.head:
        return None
    if refs.exists(tx, repository.id, repository.head) or not refs.exists(tx, repository.id, push.head):
        return None
    return push.head


def _details(push: Push, judgement: judge.Judgement) -> dict[str, object]:
    """The push's own details; what was refused goes with them, so that a repeated push hears the same."""
    if not judgement.refused:
        return dict(push.details)
    return {**push.details, "refused": {shown(name): why for name, why in judgement.refused.items()}}
