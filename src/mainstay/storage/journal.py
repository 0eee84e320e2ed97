"""A second record of every change, in the object store: so that the ledger can be rebuilt from there alone.

    journal/<uid>/prepared/<push_id>.json         what a push is about to do, stored beside its pack
    journal/<uid>/<version>.json                  what a change did
    journal/<uid>/checkpoint-<version>.json.gz    a whole repository, every 1,000 versions

The ledger decides; the journal follows. `write_up_to` runs before a push is acknowledged; what it misses
because the store was away, `catch_up` writes later. Whoever writes the record of a version has seen the one
before it: else the last push could be in the journal, and the birth of its repository not.

Commit records are create-only: if the record of a version is there and says something else, two ledgers
think that they are the one (a database restored to the past, or a failover gone wrong), and that is never
papered over: `SplitBrain`.

The form of the records is in `storage.records`, reading them all back in `storage.rebuild`.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog

from mainstay.foundation.errors import Conflict
from mainstay.storage.ledger import Change, Ledger, NoSuchRepository, Push, Repository
from mainstay.storage.objects import KeyTaken, NoSuchObject, ObjectStore
from mainstay.storage.records import (
    BrokenRecord,
    Prepared,
    decode_change,
    encode_change,
    encode_prepared,
    encode_snapshot,
)

CHECKPOINT_VERSIONS: Final = 1000
"""A checkpoint is written whenever a multiple of this passes."""

_COMMIT_KEY: Final = re.compile(r"journal/[0-9A-Z]{26}/[0-9]{12}\.json")
_CONCURRENT_WRITES = 8
_GAP_MAX = 1000
"""A longer gap before a push is left to `catch_up`: it is no moment's delay, and the push waits."""
_PAGE = 50
_LOOKS = 5

log = structlog.get_logger()


class SplitBrain(Conflict):
    """The journal holds another change under a version of this ledger: two ledgers wrote to one store."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What one `catch_up` did."""

    changes: int
    checkpoints: int


def folder(uid: str) -> str:
    """Everything the journal has of a repository is under this prefix."""
    return f"journal/{uid}/"


def commit_key(uid: str, version: int) -> str:
    return f"{folder(uid)}{version:012d}.json"


def is_commit_key(key: str) -> bool:
    """Whether this is the record of one change."""
    return _COMMIT_KEY.fullmatch(key) is not None


def prepared_key(uid: str, push_id: str) -> str:
    return f"{folder(uid)}prepared/{push_id}.json"


def checkpoint_key(uid: str, version: int) -> str:
    return f"{folder(uid)}checkpoint-{version:012d}.json.gz"


def write_prepared(objects: ObjectStore, repository: Repository, push: Push, at_ms: int) -> None:
    """Say what `push` is about to do. Goes in the round of its packs; its upload intent names the key."""
    record = encode_prepared(Prepared(push, uid=repository.uid, at_ms=at_ms))
    objects.put_bytes(prepared_key(repository.uid, push.push_id), record)


def write_commit(objects: ObjectStore, change: Change) -> None:
    """Say what a committed change did. Repeating it is fine. Raises `SplitBrain`."""
    key = commit_key(change.uid, change.version)
    try:
        objects.put_bytes(key, encode_change(change))
    except KeyTaken:
        _check_same(change, objects.get_bytes(key))


def write_up_to(objects: ObjectStore, ledger: Ledger, repository: Repository, version: int) -> None:
    """Store the record of `version`, after those just before it that are missing. Raises `SplitBrain`."""
    first = version
    while (
        1 < first > version - _GAP_MAX and objects.size_bytes(commit_key(repository.uid, first - 1)) is None
    ):
        first -= 1
    after = first - 1
    while page := ledger.changes(repository.id, after=after, limit=min(_PAGE, version - after)):
        for change in page:
            write_commit(objects, change)
        after = page[-1].version
        if after >= version:
            return


def write_checkpoint(objects: ObjectStore, ledger: Ledger, repository_id: int) -> bool:
    """Store the whole state of a repository as of now. False when it is deleted and has none."""
    try:
        snapshot = ledger.snapshot(repository_id)
    except NoSuchRepository:
        return False
    repository = snapshot.repository
    try:
        objects.put_bytes(checkpoint_key(repository.uid, repository.version), encode_snapshot(snapshot))
    except KeyTaken:
        # Written by another version of Mainstay in other words. Its commit record settles whose it is.
        log.info("journal.checkpoint_kept", repository=repository.uid, version=repository.version)
    return True


def catch_up(ledger: Ledger, objects: ObjectStore, *, limit: int = 100) -> CaughtUp:
    """Store the records of up to `limit` changes that may lack one; drop their prepared records.

    Idempotent, and right with several running at once. Changes are marked last, so that a crash before
    only repeats work. Call again until `changes` is less than `limit`. Raises `SplitBrain`, but only after
    doing what could be done for the other changes.
    """
    changes = ledger.unjournaled(limit=limit)
    with ThreadPoolExecutor(_CONCURRENT_WRITES, thread_name_prefix="journal") as threads:
        outcomes = list(threads.map(lambda each: _settle_in_order(objects, each), _by_repository(changes)))
    settled = [change for done, _ in outcomes for change in done]
    quarrels = [quarrel for _, quarrel in outcomes]
    checkpoints = sum(write_checkpoint(objects, ledger, each) for each in _due_for_checkpoint(settled))
    ledger.mark_journaled([(change.repository_id, change.version) for change in settled])
    for quarrel in filter(None, quarrels):
        raise quarrel
    if changes:
        log.info("journal.caught_up", changes=len(changes), checkpoints=checkpoints)
    return CaughtUp(len(changes), checkpoints)


def is_behind_journal(ledger: Ledger, objects: ObjectStore, repository_id: int) -> bool:
    """Whether the journal knows a change that this ledger does not: its database lost the end of its time.

    Raises `NoSuchRepository`.
    """
    for _ in range(_LOOKS):
        repository = ledger.repository(repository_id)
        if objects.size_bytes(commit_key(repository.uid, repository.version + 1)) is None:
            return False
        if ledger.repository(repository_id).version == repository.version:
            return True
        # A push committed between the two looks. Look again.
    return False


def _due_for_checkpoint(changes: Sequence[Change]) -> list[int]:
    due = {change.repository_id for change in changes if change.version % CHECKPOINT_VERSIONS == 0}
    return sorted(due)


def _by_repository(changes: Sequence[Change]) -> list[list[Change]]:
    found: dict[int, list[Change]] = {}
    for change in sorted(changes, key=lambda change: change.version):
        found.setdefault(change.repository_id, []).append(change)
    return list(found.values())


def _settle_in_order(
    objects: ObjectStore, changes: Sequence[Change]
) -> tuple[list[Change], SplitBrain | None]:
    """Those of one repository that are settled; it ends at the first that somebody else wrote."""
    settled: list[Change] = []
    for change in changes:
        if (quarrel := _settle(objects, change)) is not None:
            return settled, quarrel
        settled.append(change)
    return settled, None


def _settle(objects: ObjectStore, change: Change) -> SplitBrain | None:
    """Leave the commit record of a change, and no prepared one; or say who else wrote that record."""
    try:
        _find_or_write_commit(objects, change)
    except SplitBrain as quarrel:
        log.warning(
            "journal.split_brain_found", repository=change.uid, version=change.version, reason=str(quarrel)
        )
        return quarrel
    if change.kind == "push" and change.push_id is not None:
        objects.delete(prepared_key(change.uid, change.push_id))
    return None


def _find_or_write_commit(objects: ObjectStore, change: Change) -> None:
    """Nearly always the pusher wrote it: looking costs one request, trying to create it two."""
    try:
        content = objects.get_bytes(commit_key(change.uid, change.version))
    except NoSuchObject:
        write_commit(objects, change)
    else:
        _check_same(change, content)


def _check_same(change: Change, content: bytes) -> None:
    """The hash covers all of a change and all before it: equal hashes are the same history."""
    try:
        found = decode_change(content).hash
    except BrokenRecord as problem:
        found = f"a broken record ({problem})"
    if found != change.hash:
        raise SplitBrain(
            f"repository {change.uid} version {change.version}: the ledger has {change.hash},"
            f" the journal has {found}"
        )
