"""`mainstay rebuild-db`: the database is lost, the object store is not."""

import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import click

from mainstay.boot import setup_django
from mainstay.boot.layout import Layout, make_directories
from mainstay.boot.locks import pid_lock
from mainstay.boot.migrate import migrate, migration_lock
from mainstay.boot.prepare import prepare
from mainstay.boot.settings import load_for_command
from mainstay.boot.stores import Stores, opened_stores
from mainstay.cli.frame import data_option, json_option, show
from mainstay.foundation import logs
from mainstay.foundation.clock import iso8601
from mainstay.foundation.errors import MainstayError, NotFound
from mainstay.ops import settings_store
from mainstay.storage.check import Finding
from mainstay.storage.identity import Marker, read_marker
from mainstay.storage.rebuild import PreparedPush, RebuildReport, RebuiltRepository, rebuild

WHOLE, INCOMPLETE = 0, 1


class NothingToRebuild(NotFound):
    """The object store holds no instance."""


@click.command
@click.option("--check", "only_look", is_flag=True, help="Only say what would come back; change nothing.")
@click.option(
    "--apply-prepared",
    is_flag=True,
    help="Also apply pushes that were about to commit when the database was lost, where all refs still fit.",
)
@data_option
@json_option
def command(only_look: bool, apply_prepared: bool, data: Path | None, as_json: bool) -> int:
    """Rebuild repositories and projects from the object store, into a database that is new or incomplete.

    Comes back: refs with their whole log, packs, forks, projects with their groups and owners. Does not:
    passwords, keys, tokens, members; those are in backups of the database. May be run again.

    Exit code 0: everything came back; 1: something did not, or a push waits for your decision.
    """
    if only_look and apply_prepared:
        raise click.UsageError("--check changes nothing, so there is nothing to apply with --apply-prepared")
    logs.configure(process="cli", level="warning")
    settings = load_for_command(data)
    layout = Layout(settings.data)
    make_directories(layout)
    # Looking is fine beside a running node. Writing is not: the node would serve what is half there.
    with nullcontext() if only_look else pid_lock(layout.pid), opened_stores(settings) as stores:
        marker = read_marker(stores.objects)
        if marker is None:
            raise NothingToRebuild("the object store holds no Mainstay instance: is this the right one?")
        if only_look:
            report = rebuild(stores.objects, None, on_repository=_progress)
        else:
            report = _rebuild(stores, marker, apply_prepared=apply_prepared)
    show(_answer(report, marker), as_json=as_json, text=_text(report))
    return INCOMPLETE if _is_incomplete(report) else WHOLE


def _rebuild(stores: Stores, marker: Marker, *, apply_prepared: bool) -> RebuildReport:
    setup_django()
    with migration_lock(stores.database):
        migrate(stores.database)
    if settings_store.read(stores.database, settings_store.PREPARED_FOR) is None:
        # Nobody ever served from this database. A start that was refused may have given it a name of its
        # own; from now on it is the database of the instance in the store.
        settings_store.write(stores.database, settings_store.INSTANCE_ID, marker.instance)
    prepare(stores)
    report = rebuild(stores.objects, stores.ledger, apply_prepared=apply_prepared, on_repository=_progress)
    for repository in report.repositories:
        if not repository.deleted:
            _restore_project(repository, report)
    return report


def _restore_project(repository: RebuiltRepository, report: RebuildReport) -> None:
    from mainstay.product.projects.identity import restore_identity  # noqa: PLC0415 - needs `setup_django` first

    try:
        restore_identity(repository.identity, repository.id)
    except MainstayError as problem:
        finding = Finding("error", repository.id, f"its project did not come back: {problem}")
        report.findings.append(finding)


def _is_incomplete(report: RebuildReport) -> bool:
    undecided = any(not each.applied for each in report.prepared)
    return undecided or any(finding.severity == "error" for finding in report.findings)


def _answer(report: RebuildReport, marker: Marker) -> dict[str, object]:
    return {
        "instance": marker.instance,
        "repositories": [asdict(each) for each in report.repositories],
        "findings": [asdict(each) for each in report.findings],
        "prepared": [asdict(each) for each in report.prepared],
    }


def _text(report: RebuildReport) -> str:
    alive = [each for each in report.repositories if not each.deleted]
    head = (
        f"{len(alive)} repositories with {sum(each.refs for each in alive)} refs"
        f" and {sum(each.packs for each in alive)} packs; {len(report.repositories) - len(alive)} deleted."
    )
    findings = [f"{each.severity}: {each.message}" for each in report.findings]
    return "\n".join([head, *findings, *map(_prepared_line, report.prepared)])


def _prepared_line(push: PreparedPush) -> str:
    state = "applied" if push.applied else f"not applied: {push.reason}"
    return (
        f"push {push.push_id} of {push.actor} to repository {push.repository} at {iso8601(push.at_ms)}"
        f" ({', '.join(push.refs[:5])}): {state}"
    )


def _progress(repository: RebuiltRepository) -> None:
    if sys.stderr.isatty():
        path = repository.identity.get("full_path", repository.uid)
        click.echo(f"{path}: version {repository.version}, {repository.refs} refs", err=True)
