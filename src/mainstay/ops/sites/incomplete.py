"""Repositories that lack packs after a promotion: read-only with a list, never silently wrong.

They come back by themselves when their packs have come. One that was read-only before is left alone, then
and now, because it is not in the log as ours.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mainstay.foundation.errors import NotFound
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import Transaction
from mainstay.storage.journal import commit_key
from mainstay.storage.ledger import Ledger
from mainstay.storage.objects import ObjectStore

log = get_logger()

ACTOR: Final = "system:promote"
_PAGE: Final = 1000
_NEEDED: Final = ("pack", "idx")
"""Other side-files are made again from these."""
_PACKS: Final = (
    "SELECT p.id, p.key, p.size_bytes, m.repository_id FROM ledger_pack p"
    " JOIN ledger_repository_pack m ON m.pack_id = p.id WHERE p.id > ? ORDER BY p.id, m.repository_id LIMIT ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomplete:
    """One repository, and the objects that are not here."""

    repository_id: int
    project: str
    missing: tuple[str, ...]
    behind_journal: bool = False
    """The journal here has changes of it that the database has not."""


def missing_objects(reading: Any, objects: ObjectStore) -> dict[int, list[str]]:
    """By repository: the keys that a manifest needs and the store has not, or in another size.

    `reading` is a `Database` or a line: what has `read`. Every pack is looked at once.
    """
    found: dict[int, list[str]] = {}
    verdicts: dict[str, list[str]] = {}
    for pack_id, key, size_bytes, repository_id in _named_packs(reading):
        if pack_id not in verdicts:
            verdicts[pack_id] = list(_missing_of(objects, key, size_bytes))
        if verdicts[pack_id]:
            found.setdefault(repository_id, []).extend(verdicts[pack_id])
    return found


def _named_packs(reading: Any) -> Iterator[tuple[str, str, int, int]]:
    """Page by page; a pack that many repositories share may be split over two pages, and is read again."""
    after = ""
    while True:
        with reading.read() as tx:
            page = tx.rows(_PACKS, (after, _PAGE))
            if page and len(page) == _PAGE:
                page = _whole_packs(tx, page)
        yield from ((str(row[0]), str(row[1]), int(row[2]), int(row[3])) for row in page)
        if not page:
            return
        after = str(page[-1][0])


def _whole_packs(tx: Transaction, page: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The page without the rest of its last pack, and then that pack with all who name it."""
    last = page[-1][0]
    rest = tx.rows(
        "SELECT p.id, p.key, p.size_bytes, m.repository_id FROM ledger_pack p"
        " JOIN ledger_repository_pack m ON m.pack_id = p.id WHERE p.id = ?",
        (last,),
    )
    return [*(row for row in page if row[0] != last), *rest]


def _missing_of(objects: ObjectStore, key: str, size_bytes: int) -> Iterator[str]:
    for ending in _NEEDED:
        size = objects.size_bytes(f"{key}.{ending}")
        if size is None or (ending == "pack" and size != size_bytes):
            yield f"{key}.{ending}"


def behind_journal(ledger: Ledger, objects: ObjectStore) -> list[int]:
    """Repositories of which the journal here knows a change that the ledger does not."""
    after_id, found = 0, []
    while page := ledger.repositories(after_id=after_id):
        found += [
            each.id for each in page if objects.size_bytes(commit_key(each.uid, each.version + 1)) is not None
        ]
        after_id = page[-1].id
    return found


def close(ledger: Ledger, ids: Iterable[int]) -> list[int]:
    """Make them read-only; those that became so by this."""
    closed = []
    for repository_id in ids:
        try:
            if ledger.repository(repository_id).write_state == "writable":
                ledger.set_write_state(repository_id, "read_only", actor=ACTOR)
                closed.append(repository_id)
        except NotFound:  # deleted: nobody reads it
            continue
    if closed:
        log.warning("promotion.repositories_closed", repositories=closed[:100], count=len(closed))
    return closed


def reopen(ledger: Ledger, ids: Iterable[int]) -> list[int]:
    """Let writes in again where it was `close` that shut them out."""
    opened = []
    for repository_id in ids:
        try:
            repository = ledger.repository(repository_id)
        except NotFound:
            continue
        last = ledger.changes(repository_id, after=repository.version - 1, limit=1)
        if repository.write_state == "read_only" and last and last[0].actor == ACTOR:
            ledger.set_write_state(repository_id, "writable", actor=ACTOR)
            opened.append(repository_id)
    if opened:
        log.info("promotion.repositories_reopened", repositories=opened[:100], count=len(opened))
    return opened


def listed(
    missing: Mapping[int, Sequence[str]], behind: Sequence[int], names: Mapping[int, str]
) -> list[Incomplete]:
    """All of them, by name."""
    found = [
        Incomplete(
            repository_id=repository_id,
            project=names.get(repository_id, f"repository {repository_id}"),
            missing=tuple(missing.get(repository_id, ())),
            behind_journal=repository_id in behind,
        )
        for repository_id in sorted({*missing, *behind})
    ]
    return sorted(found, key=lambda each: each.project)


def sentence(each: Incomplete) -> str:
    """What is wrong with it."""
    reasons = []
    if each.missing:
        more = f" and {len(each.missing) - 1} more" if len(each.missing) > 1 else ""
        reasons.append(f"{each.missing[0]}{more} not here")
    if each.behind_journal:
        reasons.append("the journal here has changes that the database has not")
    return f"{each.project} is read-only: {'; '.join(reasons)}"
