"""What the journal proves about one repository: its state, and the log that leads there.

The hash chain decides what is true. A record that is missing, broken or of another history ends the chain;
the newest checkpoint behind that point, when there is one, begins it anew.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from mainstay.storage.journal import checkpoint_key, commit_key, folder
from mainstay.storage.ledger import Change, Snapshot
from mainstay.storage.ledger.replay import BrokenLog, replay
from mainstay.storage.objects import ObjectStore
from mainstay.storage.records import BrokenRecord, decode_change, decode_snapshot

_READ_AHEAD = 1000
_COMMIT = re.compile(r"journal/[^/]+/(\d{12})\.json\Z")
_CHECKPOINT = re.compile(r"journal/[^/]+/checkpoint-(\d{12})\.json\.gz\Z")
_PREPARED = re.compile(r"journal/[^/]+/prepared/[^/]+\.json\Z")


@dataclass(frozen=True, slots=True)
class Journal:
    """What the store has of one repository."""

    uid: str
    versions: Sequence[int]
    checkpoints: Sequence[int]
    prepared: Sequence[str]
    """Keys, oldest push first."""


@dataclass(frozen=True, slots=True)
class History:
    """A proved state, and the changes that lead to it."""

    snapshot: Snapshot
    changes: Sequence[Change]
    problems: Sequence[str]


def list_journal(objects: ObjectStore, uid: str) -> Journal:
    keys = sorted(found.key for found in objects.list(folder(uid)))
    return Journal(
        uid=uid,
        versions=[int(match[1]) for match in map(_COMMIT.match, keys) if match],
        checkpoints=[int(match[1]) for match in map(_CHECKPOINT.match, keys) if match],
        prepared=[key for key in keys if _PREPARED.match(key)],
    )


def read_changes(
    objects: ObjectStore, threads: ThreadPoolExecutor, journal: Journal
) -> tuple[list[Change], list[str]]:
    """The readable commit records in order, and what was wrong with the others."""

    def read(version: int) -> Change | str:
        key = commit_key(journal.uid, version)
        try:
            change = decode_change(objects.get_bytes(key))
        except BrokenRecord as problem:
            return f"{key}: {problem}"
        if (change.uid, change.version) != (journal.uid, version):
            return f"{key}: holds version {change.version} of {change.uid}"
        return change

    changes: list[Change] = []
    problems: list[str] = []
    for start in range(0, len(journal.versions), _READ_AHEAD):
        for found in threads.map(read, journal.versions[start : start + _READ_AHEAD]):
            if isinstance(found, str):
                problems.append(found)
            else:
                changes.append(found)
    return changes, problems


def prove(
    objects: ObjectStore, journal: Journal, changes: Sequence[Change], problems: list[str]
) -> History | None:
    """The longest history that the hash chain proves, from the start or from a checkpoint."""
    whole = _replayed(changes, None, problems)
    reached = whole.snapshot.repository.version if whole else 0
    last = max([reached, *journal.versions, *journal.checkpoints])
    if whole is not None and reached == last:
        return replace(whole, problems=problems)
    for version in sorted(journal.checkpoints, reverse=True):
        if version <= reached:
            break
        start = _read_checkpoint(objects, journal.uid, version, problems)
        if start is None:
            continue
        after = _replayed([change for change in changes if change.version > version], start, problems)
        problems.append(f"versions {reached + 1} to {version} come from a checkpoint: their log is lost")
        return replace(after or History(start, [], []), problems=problems)
    if whole is not None:
        problems.append(f"versions {reached + 1} to {last} are lost")
        return replace(whole, problems=problems)
    return None


def _replayed(changes: Sequence[Change], start: Snapshot | None, problems: list[str]) -> History | None:
    """As many of `changes` as continue `start`; None when not even one does."""
    good = list(changes)
    while good:
        try:
            return History(replay(good, start), good, [])
        except BrokenLog as broken:
            problems.append(str(broken))
            good = good[: _good_changes(good, start)]
    return None


def _good_changes(changes: Sequence[Change], start: Snapshot | None) -> int:
    """How many of `changes` can be replayed before one cannot: found by halving."""
    good, bad = 0, len(changes)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            replay(changes[:middle], start)
        except BrokenLog:
            bad = middle
        else:
            good = middle
    return good


def _read_checkpoint(objects: ObjectStore, uid: str, version: int, problems: list[str]) -> Snapshot | None:
    key = checkpoint_key(uid, version)
    try:
        found = decode_snapshot(objects.get_bytes(key))
    except BrokenRecord as problem:
        problems.append(f"{key}: {problem}")
        return None
    if (found.repository.uid, found.repository.version) != (uid, version):
        problems.append(f"{key}: holds version {found.repository.version} of {found.repository.uid}")
        return None
    return found
