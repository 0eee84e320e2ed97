"""Is everything there that the ledger says, and is it what it says? For `mainstay fsck`.

Reads only, and may run beside everything else. Quick: each repository against its own log, each pack and
side-file against the store by size and by the checksums at their ends, the journal by its versions and its
newest record. Deep: also every byte of every pack, and every journal record.

Not here: what is inside the packs (`repository.verify` asks git).
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

from mainstay.storage.database import Database
from mainstay.storage.journal import commit_key, folder, is_behind_journal
from mainstay.storage.ledger import Change, Ledger, NoSuchRepository, Pack, Repository
from mainstay.storage.ledger.check import verify_chain
from mainstay.storage.objects import NoSuchObject, ObjectStore
from mainstay.storage.records import BrokenRecord, decode_change
from mainstay.storage.sweep import keys_of

Severity = Literal["error", "warning", "note"]
"""`error`: something is lost or wrong. `warning`: nothing is lost yet. `note`: good to know."""

READ_BYTES: Final = 8 << 20
"""How much of a pack is in memory at a time."""

_HASH_BYTES = 20
_NEEDED = ("pack", "idx")
_CONCURRENT_READS = 8
_CHANGES_PAGE = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should know."""

    severity: Severity
    repository: int | None
    """Id of the repository, or None when it concerns all."""
    message: str


def check(
    ledger: Ledger,
    objects: ObjectStore,
    *,
    database: Database,
    repository: int | None = None,
    deep: bool = False,
    seen: set[str] | None = None,
) -> Iterator[Finding]:
    """Yield what is wrong with one repository, or with all. Raises `NoSuchRepository`, `Unavailable`.

    Packs whose id is in `seen` are passed over, and those that were read are added to it.
    """
    seen = set() if seen is None else seen
    with ThreadPoolExecutor(_CONCURRENT_READS, thread_name_prefix="check") as threads:
        for each in _chosen(ledger, repository):
            try:
                for problem in verify_chain(database, each.id):
                    yield Finding("error", each.id, f"ledger: {problem}")
                yield from _check_packs(ledger, objects, each, threads=threads, seen=seen, deep=deep)
                yield from _check_journal(ledger, objects, each, deep=deep)
            except NoSuchRepository:
                if repository is not None:
                    raise
                yield Finding("note", each.id, "was deleted during the check")


def _chosen(ledger: Ledger, repository: int | None) -> Iterator[Repository]:
    if repository is not None:
        yield ledger.repository(repository)
        return
    after_id = 0
    while page := ledger.repositories(after_id=after_id):
        yield from page
        after_id = page[-1].id


def _check_packs(
    ledger: Ledger,
    objects: ObjectStore,
    repository: Repository,
    *,
    threads: ThreadPoolExecutor,
    seen: set[str],
    deep: bool,
) -> Iterator[Finding]:
    # Forks share packs: each is read once.
    packs = [pack for pack in ledger.packs(repository.id)[2] if pack.id not in seen]
    seen.update(pack.id for pack in packs)
    for findings in threads.map(lambda pack: _check_pack(objects, repository.id, pack, deep=deep), packs):
        yield from findings


def missing_files(objects: ObjectStore, repository_id: int, packs: Sequence[Pack]) -> list[Finding]:
    """Files of these packs that the store does not have, or has in another size."""
    with ThreadPoolExecutor(_CONCURRENT_READS, thread_name_prefix="check") as threads:
        found = threads.map(lambda pack: list(_check_files(objects, repository_id, pack)), packs)
        return [finding for findings in found for finding in findings]


def _check_pack(objects: ObjectStore, repository_id: int, pack: Pack, *, deep: bool) -> list[Finding]:
    findings = list(_check_files(objects, repository_id, pack))
    if any(finding.severity == "error" for finding in findings):
        return findings
    problems = [*_trailer_problems(objects, pack), *(_content_problems(objects, pack) if deep else ())]
    return findings + [Finding("error", repository_id, problem) for problem in problems]


def _check_files(objects: ObjectStore, repository_id: int, pack: Pack) -> Iterator[Finding]:
    for key in keys_of(pack):
        ending = key.rpartition(".")[2]
        size = objects.size_bytes(key)
        if size is None:
            severity: Severity = "error" if ending in _NEEDED else "warning"
            yield Finding(severity, repository_id, f"{key} is not in the object store")
        elif ending == "pack" and size != pack.size_bytes:
            yield Finding("error", repository_id, f"{key} has {size} bytes instead of {pack.size_bytes}")


def _trailer_problems(objects: ObjectStore, pack: Pack) -> Iterator[str]:
    """The index ends with the checksum its pack ends with, and its own."""
    own = objects.get_bytes(f"{pack.key}.pack", start=max(0, pack.size_bytes - _HASH_BYTES))
    index_key = f"{pack.key}.idx"
    size = objects.size_bytes(index_key) or 0
    end = objects.get_bytes(index_key, start=max(0, size - 2 * _HASH_BYTES))
    if end[:_HASH_BYTES] != own:
        yield f"{index_key} is the index of another pack"


def _content_problems(objects: ObjectStore, pack: Pack) -> Iterator[str]:
    key = f"{pack.key}.pack"
    digest = hashlib.sha256()
    for start in range(0, pack.size_bytes, READ_BYTES):
        digest.update(objects.get_bytes(key, start=start, length=READ_BYTES))
    if digest.hexdigest() != pack.sha256:
        yield f"{key}: its sha256 is {digest.hexdigest()} instead of {pack.sha256}"
    index = objects.get_bytes(f"{pack.key}.idx")
    if hashlib.sha1(index[:-_HASH_BYTES], usedforsecurity=False).digest() != index[-_HASH_BYTES:]:
        yield f"{pack.key}.idx does not have the checksum it says"


def _check_journal(
    ledger: Ledger, objects: ObjectStore, repository: Repository, *, deep: bool
) -> Iterator[Finding]:
    if is_behind_journal(ledger, objects, repository.id):
        message = f"the journal goes on after version {repository.version}: was the database restored?"
        yield Finding("error", repository.id, message)
    listed = {found.key for found in objects.list(folder(repository.uid))}
    versions = range(1, repository.version + 1)
    missing = [version for version in versions if commit_key(repository.uid, version) not in listed]
    if missing:
        message = f"{len(missing)} journal records from version {missing[0]} are not written yet"
        yield Finding("warning", repository.id, message)
    lacking = set(missing)
    for change in _changes(ledger, repository, after=0 if deep else repository.version - 1):
        if change.version not in lacking and (problem := _record_problem(objects, change)):
            yield Finding("error", repository.id, problem)


def _changes(ledger: Ledger, repository: Repository, *, after: int) -> Iterator[Change]:
    while page := ledger.changes(repository.id, after=after, limit=_CHANGES_PAGE):
        yield from (change for change in page if change.version <= repository.version)
        after = page[-1].version


def _record_problem(objects: ObjectStore, change: Change) -> str | None:
    key = commit_key(change.uid, change.version)
    try:
        found = decode_change(objects.get_bytes(key)).hash
    except (BrokenRecord, NoSuchObject) as problem:
        return f"{key}: {problem}"
    if found != change.hash:
        return f"{key} tells another history: its hash is {found}, the ledger's is {change.hash}"
    return None
