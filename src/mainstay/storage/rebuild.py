"""Make a ledger again from the object store alone.

Each repository is the sum of its journal: every commit record in order, each proved by the hash chain. When
one is missing or broken, the newest checkpoint behind it takes its place, and that is reported; with no
such checkpoint the repository ends before the gap, and that is reported too. A repository whose packs are
not all there comes back read-only. Deleted ones come back as deleted, so that no id is given out again.

A push whose prepared record is there but whose commit record is not may have committed in the last moment
of the lost database, or not. It is listed, and applied only when asked for and when every ref is still
where the push expected it.

Running it again is fine: what is there already with the same history is left alone and reported alike.

Not here: giving repositories their projects back. `identity` of each says what `product` needs for that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from mainstay.foundation.errors import Conflict, MainstayError
from mainstay.git.objectnames import shown
from mainstay.storage.check import Finding, missing_files
from mainstay.storage.history import History, Journal, list_journal, prove, read_changes
from mainstay.storage.ledger import Ledger, Snapshot
from mainstay.storage.objects import ObjectStore
from mainstay.storage.records import BrokenRecord, Prepared, decode_prepared

JOURNAL: Final = "journal/"
ACTOR: Final = "system:rebuild-db"

_CONCURRENT_READS = 16

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RebuiltRepository:
    """A repository that the ledger has again."""

    id: int
    uid: str
    version: int
    refs: int
    packs: int
    deleted: bool
    identity: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PreparedPush:
    """A push that may or may not have committed."""

    repository: int
    push_id: str
    actor: str
    at_ms: int
    refs: Sequence[str]
    applied: bool
    reason: str
    """Why it was not applied; empty when it was."""


@dataclass(slots=True)
class RebuildReport:
    repositories: list[RebuiltRepository] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    prepared: list[PreparedPush] = field(default_factory=list)


def rebuild(
    objects: ObjectStore,
    ledger: Ledger | None,
    *,
    apply_prepared: bool = False,
    on_repository: Callable[[RebuiltRepository], None] = lambda _: None,
) -> RebuildReport:
    """Write every repository of the journal into `ledger`. Raises `Unavailable` when either is away.

    Without a ledger only say what would come back.
    """
    assert ledger is not None or not apply_prepared, "there is nothing to apply it to"
    report = RebuildReport()
    uids = sorted({found.key.split("/")[1] for found in objects.list(JOURNAL) if found.key.count("/") > 1})
    with ThreadPoolExecutor(_CONCURRENT_READS, thread_name_prefix="rebuild") as threads:
        for uid in uids:
            journal = list_journal(objects, uid)
            rebuilt = _rebuild_one(objects, ledger, threads, journal, report)
            if rebuilt is not None:
                known, repository = rebuilt
                _settle_prepared(objects, ledger, journal, known, report, apply_prepared=apply_prepared)
                report.repositories.append(repository)
                on_repository(repository)
    log.info("rebuild.finished", repositories=len(report.repositories), findings=len(report.findings))
    return report


def _rebuild_one(
    objects: ObjectStore,
    ledger: Ledger | None,
    threads: ThreadPoolExecutor,
    journal: Journal,
    report: RebuildReport,
) -> tuple[set[str], RebuiltRepository] | None:
    """The pushes known to have committed, and the repository; None when nothing of it can be proved."""
    changes, problems = read_changes(objects, threads, journal)
    history = prove(objects, journal, changes, problems)
    if history is None:
        if journal.versions or journal.checkpoints:
            message = f"repository {journal.uid} cannot be rebuilt: {'; '.join(problems[:5])}"
            report.findings.append(Finding("error", None, message))
        return None
    repository = history.snapshot.repository
    report.findings.extend(Finding("error", repository.id, problem) for problem in history.problems)
    if ledger is not None and not _restore(ledger, history):
        message = f"repository {journal.uid} is in the database with another history: left alone"
        report.findings.append(Finding("error", repository.id, message))
        return None
    _protect_incomplete(objects, ledger, history.snapshot, report)
    rebuilt = RebuiltRepository(
        id=repository.id,
        uid=repository.uid,
        version=repository.version,
        refs=len(history.snapshot.refs),
        packs=len(history.snapshot.packs),
        deleted=repository.write_state == "deleted",
        identity=repository.identity,
    )
    return {change.push_id for change in changes if change.push_id is not None}, rebuilt


def _restore(ledger: Ledger, history: History) -> bool:
    """Whether the ledger has this history, now or already."""
    try:
        ledger.restore(history.snapshot, history.changes)
    except Conflict:
        repository = history.snapshot.repository
        there = ledger.changes(repository.id, after=repository.version - 1, limit=1)
        return bool(there) and there[0].hash == history.snapshot.hash
    return True


def _protect_incomplete(
    objects: ObjectStore, ledger: Ledger | None, snapshot: Snapshot, report: RebuildReport
) -> None:
    """Nobody may push onto a repository that lacks packs: it would only hide what is lost."""
    repository = snapshot.repository
    findings = missing_files(objects, repository.id, snapshot.packs)
    report.findings.extend(findings)
    if any(finding.severity == "error" for finding in findings) and repository.write_state == "writable":
        if ledger is not None:
            ledger.set_write_state(repository.id, "read_only", actor=ACTOR)
        message = f"repository {repository.uid} is read-only because packs are missing"
        report.findings.append(Finding("error", repository.id, message))


def _settle_prepared(
    objects: ObjectStore,
    ledger: Ledger | None,
    journal: Journal,
    known: set[str],
    report: RebuildReport,
    *,
    apply_prepared: bool,
) -> None:
    for prepared in _read_prepared(objects, journal, report):
        push = prepared.push
        if push.push_id in known:
            continue
        reason = "not asked to apply it"
        if apply_prepared and ledger is not None:
            reason = _apply(objects, ledger, prepared)
        refs = [shown(change.name) for change in push.changes]
        report.prepared.append(
            PreparedPush(
                push.repository_id, push.push_id, push.actor, prepared.at_ms, refs, not reason, reason
            )
        )


def _read_prepared(objects: ObjectStore, journal: Journal, report: RebuildReport) -> Iterator[Prepared]:
    for key in journal.prepared:
        try:
            yield decode_prepared(objects.get_bytes(key))
        except BrokenRecord as problem:
            report.findings.append(Finding("warning", None, f"{key}: {problem}"))


def _apply(objects: ObjectStore, ledger: Ledger, prepared: Prepared) -> str:
    """Commit the push, all of it or nothing; return why not, or nothing."""
    push = prepared.push
    missing = missing_files(objects, push.repository_id, push.packs)
    if missing:
        return missing[0].message
    try:
        outcome = ledger.push(replace(push, atomic=True))
    except MainstayError as refused:
        return str(refused)
    if outcome.version is None:
        return "; ".join(f"{shown(name)}: {reason}" for name, reason in outcome.refused.items())
    return ""
