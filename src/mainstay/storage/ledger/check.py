"""Is the ledger true to its own log? For `fsck`.

Reads only. A problem is a sentence; no problem is an empty list.
"""

from collections.abc import Iterator

from mainstay.git.objectnames import shown
from mainstay.storage.database import Database, Transaction
from mainstay.storage.ledger import Change, NoSuchRepository, Pack, Ref, Snapshot, log
from mainstay.storage.ledger.chain import hash_of
from mainstay.storage.ledger.replay import BrokenLog, Replay
from mainstay.storage.ledger.snapshots import snapshot_of_any

_PAGE = 200
_PROBLEMS_MAX = 100


def verify_chain(database: Database, repository_id: int) -> list[str]:
    """Problems of one repository: gaps, wrong hashes, and tables that differ from the sum of the log.

    A log that begins later, because the repository was rebuilt from a checkpoint, is checked for its
    hashes only. Raises `NoSuchRepository`.
    """
    with database.read() as tx:
        stored = snapshot_of_any(tx, repository_id)
        if stored is None:
            raise NoSuchRepository(f"there is no repository {repository_id}")
        if log.has(tx, repository_id, 1):
            problems = _replay_problems(tx, stored)
        else:
            problems = _link_problems(tx, stored)
    return problems[:_PROBLEMS_MAX]


def _pages(tx: Transaction, repository_id: int) -> Iterator[Change]:
    version = 0
    while page := log.after(tx, repository_id, version, _PAGE):
        yield from page
        version = page[-1].version


def _replay_problems(tx: Transaction, stored: Snapshot) -> list[str]:
    state = Replay()
    try:
        for change in _pages(tx, stored.repository.id):
            state.apply(change)
        expected = state.snapshot()
    except BrokenLog as broken:
        return [str(broken)]
    return list(_differences(expected, stored))


def _link_problems(tx: Transaction, stored: Snapshot) -> list[str]:
    problems: list[str] = []
    before: Change | None = None
    for change in _pages(tx, stored.repository.id):
        if before is not None and (change.previous_hash, change.version) != (before.hash, before.version + 1):
            problems.append(f"version {change.version} does not follow version {before.version}")
        if hash_of(change) != change.hash:
            problems.append(f"version {change.version}: its content does not give its hash")
        before = change
    if before is not None and (before.version, before.hash) != (stored.repository.version, stored.hash):
        problems.append(f"the log ends at {before.version}, the repository is at {stored.repository.version}")
    return problems


def _differences(expected: Snapshot, stored: Snapshot) -> Iterator[str]:
    """What the log says against what the tables say."""
    if expected.repository != stored.repository:
        yield f"the log gives {expected.repository}, the table holds {stored.repository}"
    if expected.hash != stored.hash:
        yield f"the log ends with hash {expected.hash}, the table holds {stored.hash}"
    yield from _ref_differences(
        {ref.name: ref for ref in expected.refs}, {ref.name: ref for ref in stored.refs}
    )
    yield from _pack_differences({p.id: p for p in expected.packs}, {p.id: p for p in stored.packs})


def _ref_differences(expected: dict[bytes, Ref], stored: dict[bytes, Ref]) -> Iterator[str]:
    for name in sorted(expected.keys() | stored.keys()):
        wanted, found = expected.get(name), stored.get(name)
        if wanted != found:
            name_shown = shown((wanted or found).name)  # type: ignore[union-attr]
            yield (
                f"{name_shown}: the log gives {wanted and wanted.oid}, the table holds {found and found.oid}"
            )


def _pack_differences(expected: dict[str, Pack], stored: dict[str, Pack]) -> Iterator[str]:
    for pack_id in sorted(expected.keys() | stored.keys()):
        if pack_id not in stored:
            yield f"pack {pack_id} is in the log but not in the manifest"
        elif pack_id not in expected:
            yield f"pack {pack_id} is in the manifest but not in the log"
        elif _without_artefacts(expected[pack_id]) != _without_artefacts(stored[pack_id]):
            yield f"pack {pack_id}: the log gives {expected[pack_id]}, the table holds {stored[pack_id]}"


def _without_artefacts(pack: Pack) -> tuple[object, ...]:
    # A fork may have added artefacts to a pack that both share.
    return (pack.id, pack.key, pack.sha256, pack.size_bytes, pack.objects, pack.kind, pack.sealed)
