"""Deleting what nobody needs: uploads that never committed, and packs that left every manifest.

Nothing is found by listing the store. An upload intent was recorded before its objects were, and a pack
that left its last manifest is marked as doomed: both are rows.

- An expired intent is *claimed* first, after which its push can no longer commit; then its objects go,
  then the row. A crash in between repeats that. While the journal is ahead of the ledger, as after a
  restore of the database, nothing of that repository goes. An upload so slow that it ends after all this
  leaves an orphan, which `audit` reports.
- A doomed pack is kept for the retention first: longer than the database can be restored back, so that a
  restored manifest finds all its packs, and far longer than any running request.

`audit` compares the whole store with the ledger by listing it. It only reports.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import structlog

from mainstay.foundation.clock import Clock
from mainstay.storage.journal import is_behind_journal
from mainstay.storage.ledger import Ledger, NoSuchRepository, Pack, UploadIntent
from mainstay.storage.objects import ObjectStore, StoredObject

REPOSITORIES: Final = "repositories/"
"""All packs are under this prefix."""

_DAY_S = 24 * 60 * 60

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """When what nobody needs is deleted, and how much at once."""

    retention_s: int = 7 * _DAY_S
    """Doomed packs are kept this long. Must exceed the window to which the database can be restored."""

    late_upload_s: int = 60 * 60
    """An intent is claimed this long after it expired: a last slow request may still be on its way."""

    batch: int = 100
    """Rows handled at a time."""

    batches_max: int = 100
    """One sweep ends after so many batches of each kind; the next goes on from there."""

    audited_age_s: int = 2 * _DAY_S
    """An audit passes over objects younger than this: their upload may still be running."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep deleted."""

    intents: int
    packs: int
    objects: int
    bytes: int
    """Of the packs; what an abandoned upload had stored is not known."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a listing of the store found."""

    objects: int
    bytes: int
    orphans: int
    orphan_bytes: int
    examples: list[StoredObject] = field(default_factory=list)
    """Some of the orphans, at most `EXAMPLES_MAX`."""


EXAMPLES_MAX: Final = 1000


def sweep(
    ledger: Ledger, objects: ObjectStore, *, clock: Clock, settings: SweepSettings | None = None
) -> SweepReport:
    """Delete what is due. Safe beside everything else, itself included. Raises `Unavailable`."""
    settings = settings or SweepSettings()
    now_ms = clock.now_ms()
    intents, of_intents = _sweep_uploads(ledger, objects, now_ms - settings.late_upload_s * 1000, settings)
    packs, of_packs, size = _sweep_packs(ledger, objects, now_ms - settings.retention_s * 1000, settings)
    report = SweepReport(intents, packs, of_intents + of_packs, size)
    if intents or packs:
        log.info("sweep.deleted", intents=intents, packs=packs, objects=report.objects, size_bytes=size)
    return report


def _sweep_uploads(
    ledger: Ledger, objects: ObjectStore, expired_at_ms: int, settings: SweepSettings
) -> tuple[int, int]:
    """Intents and objects deleted."""
    intents = keys = 0
    for _ in range(settings.batches_max):
        claimed = ledger.claim_uploads(expired_at_ms=expired_at_ms, limit=settings.batch)
        swept = [intent for intent in claimed if _is_useless(ledger, objects, intent)]
        for intent in swept:
            for key in intent.keys:
                objects.delete(key)
            ledger.forget_upload(intent.id)
            keys += len(intent.keys)
        intents += len(swept)
        if not swept or len(claimed) < settings.batch:
            break
    return intents, keys


def _is_useless(ledger: Ledger, objects: ObjectStore, intent: UploadIntent) -> bool:
    """Whether no acknowledged push can need the objects of this claimed intent.

    A database restored to the past has intents of pushes that committed later, in the time that was lost.
    The journal still knows those pushes: while it is ahead of the ledger, their packs must stay.
    """
    try:
        behind = is_behind_journal(ledger, objects, intent.repository_id)
    except NoSuchRepository:
        return True
    if behind:
        log.warning("sweep.intent_kept", intent=intent.id, repository_id=intent.repository_id)
    return not behind


def _sweep_packs(
    ledger: Ledger, objects: ObjectStore, doomed_before_ms: int, settings: SweepSettings
) -> tuple[int, int, int]:
    """Packs, objects and bytes deleted."""
    packs = keys = size = 0
    for _ in range(settings.batches_max):
        doomed = ledger.doomed_packs(doomed_before_ms=doomed_before_ms, limit=settings.batch)
        for pack in doomed:
            for key in keys_of(pack):
                objects.delete(key)
                keys += 1
            ledger.forget_pack(pack.id)
            packs, size = packs + 1, size + pack.size_bytes
        if len(doomed) < settings.batch:
            break
    return packs, keys, size


def keys_of(pack: Pack) -> list[str]:
    """The objects that a pack is made of, the pack itself first."""
    return [f"{pack.key}.{ending}" for ending in ("pack", *pack.artefacts)]


def audit(
    ledger: Ledger, objects: ObjectStore, *, clock: Clock, settings: SweepSettings | None = None
) -> AuditReport:
    """List all packs of the store and report those that no row names. Deletes nothing."""
    settings = settings or SweepSettings()
    young_ms = clock.now_ms() - settings.audited_age_s * 1000
    # Listed first, known second: what commits in between is known, what is known and unlisted is no matter.
    listed = [found for found in objects.list(REPOSITORIES) if found.modified_ms < young_ms]
    known = {key for pack in _all_packs(ledger, clock) for key in keys_of(pack)}
    orphans = [found for found in listed if found.key not in known]
    return AuditReport(
        objects=len(listed),
        bytes=sum(found.size_bytes for found in listed),
        orphans=len(orphans),
        orphan_bytes=sum(found.size_bytes for found in orphans),
        examples=orphans[:EXAMPLES_MAX],
    )


def _all_packs(ledger: Ledger, clock: Clock) -> Iterator[Pack]:
    """Every pack of every manifest, and the doomed ones."""
    after_id = 0
    while repositories := ledger.repositories(after_id=after_id):
        for repository in repositories:
            yield from ledger.packs(repository.id)[2]
        after_id = repositories[-1].id
    yield from ledger.doomed_packs(doomed_before_ms=clock.now_ms() + 1, limit=_DOOMED_PACKS_MAX)


_DOOMED_PACKS_MAX = 10_000_000
