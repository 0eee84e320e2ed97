"""Where the journal of this store knows more than the ledger of this site: what a promotion loses or regains.

Looks at one key for each repository, so it takes a moment also where there are many. Repositories that were
born after the ledger ends, and pushes that were only prepared, are found by listing the journal, which is
given up after a while on a large store.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.storage.check import missing_files
from mainstay.storage.database import Database
from mainstay.storage.journal import commit_key
from mainstay.storage.ledger import Change, Ledger
from mainstay.storage.ledger.regain import hash_here, is_regainable
from mainstay.storage.objects import NoSuchObject, ObjectStore
from mainstay.storage.records import BrokenRecord, Prepared, decode_change, decode_prepared

_CHANGES_MAX: Final = 1000
_LIST_S_MAX: Final = 20.0
_PARTS_OF_PREPARED: Final = 4


@dataclass(frozen=True, slots=True)
class Ahead:
    """Of one repository: changes in the journal behind the last one of the ledger."""

    repository_id: int
    uid: str
    changes: Sequence[Change]
    regainable: Sequence[Change]
    """The first of them, as many as continue the ledger and have their packs here."""


@dataclass(slots=True)
class Unknown:
    """What only a listing finds."""

    prepared: list[Prepared] = field(default_factory=list)
    """Pushes that may or may not have been acknowledged."""
    born: list[Change] = field(default_factory=list)
    """First changes of repositories that the ledger does not have."""
    is_complete: bool = True


def ahead(ledger: Ledger, database: Database, objects: ObjectStore) -> list[Ahead]:
    """Raises `Unavailable`."""
    found, after_id = [], 0
    while page := ledger.repositories(after_id=after_id):
        for each in page:
            changes = list(_changes_after(objects, each.uid, each.version))
            if changes:
                version, chain_hash = hash_here(database, each.id)
                good = list(_regainable(objects, changes, version, chain_hash))
                found.append(Ahead(each.id, each.uid, changes, good))
        after_id = page[-1].id
    return found


def _changes_after(objects: ObjectStore, uid: str, version: int) -> Iterator[Change]:
    for number in range(version + 1, version + 1 + _CHANGES_MAX):
        try:
            yield decode_change(objects.get_bytes(commit_key(uid, number)))
        except (NoSuchObject, BrokenRecord):
            return


def _regainable(
    objects: ObjectStore, changes: Sequence[Change], version: int, chain_hash: str
) -> Iterator[Change]:
    for change in changes:
        if not is_regainable(version, chain_hash, change):
            return
        lacking = missing_files(objects, change.repository_id, change.packs_added)
        if any(finding.severity == "error" for finding in lacking):
            return
        yield change
        version, chain_hash = change.version, change.hash


def unknown(ledger: Ledger, objects: ObjectStore, *, clock: Clock = SYSTEM) -> Unknown:
    """List the journal for what no look at a repository finds."""
    found, known = Unknown(), _known_uids(ledger)
    until_s = clock.monotonic_s() + _LIST_S_MAX
    for stored in objects.list("journal/"):
        if clock.monotonic_s() > until_s:
            found.is_complete = False
            break
        parts = stored.key.split("/")
        if len(parts) == _PARTS_OF_PREPARED:
            _add_prepared(ledger, objects, stored.key, found)
        elif len(parts) > 1 and parts[1] not in known and stored.key == commit_key(parts[1], 1):
            found.born += list(_changes_after(objects, parts[1], 0))[:1]
    return found


def _known_uids(ledger: Ledger) -> set[str]:
    uids: set[str] = set()
    after_id = 0
    while page := ledger.repositories(after_id=after_id):
        uids |= {each.uid for each in page}
        after_id = page[-1].id
    return uids


def _add_prepared(ledger: Ledger, objects: ObjectStore, key: str, found: Unknown) -> None:
    try:
        prepared = decode_prepared(objects.get_bytes(key))
    except (NoSuchObject, BrokenRecord):
        return
    if ledger.outcome_of(prepared.push.push_id) is None:
        found.prepared.append(prepared)
