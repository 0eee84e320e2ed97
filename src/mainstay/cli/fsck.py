"""`mainstay fsck`: is everything there, and is it what it should be?"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click

from mainstay.access.actors import Actor, Kind
from mainstay.boot.git import GitTools, git_tools
from mainstay.boot.stores import Stores
from mainstay.cli.frame import data_option, json_option, opened, show
from mainstay.foundation.errors import MainstayError, NotFound
from mainstay.ops import settings_store
from mainstay.product.projects import locate
from mainstay.repository import verify
from mainstay.storage.check import Finding, check
from mainstay.storage.identity import check_owner, read_marker
from mainstay.storage.ledger import NoSuchRepository, Repository

SOUND, DAMAGED, NOT_CHECKED = 0, 1, 2

_OPERATOR = Actor(kind=Kind.SYSTEM, name="operator", is_admin=True)


class NothingHere(NotFound):
    """There is no instance to check."""


@click.command
@click.argument("project", required=False)
@click.option("--quick", is_flag=True, help="Compare sizes and checksums; do not read whole packs.")
@data_option
@json_option
def command(project: str | None, quick: bool, data: Path | None, as_json: bool) -> int:
    """Verify packs, manifests and the log of refs, of PROJECT or of all. Changes nothing.

    Exit code 0: sound, perhaps with warnings; 1: damage was found; 2: it could not be checked.
    """
    try:
        with opened(data, orm=False) as stores, git_tools(stores) as tools:
            _check_store(stores)
            checked, findings = _verify(stores, tools, project, quick=quick, as_json=as_json)
    except MainstayError as problem:
        click.echo(f"mainstay: {problem}", err=True)
        return NOT_CHECKED
    damaged = any(finding.severity == "error" for finding in findings)
    answer = {"repositories": checked, "sound": not damaged, "findings": [asdict(each) for each in findings]}
    verdict = "damage was found" if damaged else "sound"
    show(answer, as_json=as_json, text=f"{checked} repositories checked, {len(findings)} findings: {verdict}")
    return DAMAGED if damaged else SOUND


def _check_store(stores: Stores) -> None:
    """One sentence about a disk that is not mounted, rather than one about each pack."""
    instance = settings_store.read(stores.database, settings_store.INSTANCE_ID)
    if instance is None:
        raise NothingHere("no node was ever started on this data directory: there is nothing to check")
    check_owner(read_marker(stores.objects), instance, is_new_database=False)


def _verify(
    stores: Stores, tools: GitTools, project: str | None, *, quick: bool, as_json: bool
) -> tuple[int, list[Finding]]:
    """How many repositories were checked, and what was found; said as it comes to who waits for it."""
    seen: set[str] = set()
    checked, findings = 0, []
    for repository in _chosen(stores, project):
        _progress(f"repository {repository.id} ({_path_of(repository)})")
        for finding in _findings(stores, tools, repository, quick=quick, seen=seen):
            findings.append(finding)
            if not as_json:
                click.echo(f"{finding.severity}: repository {finding.repository}: {finding.message}")
        checked += 1
    return checked, findings


def _chosen(stores: Stores, project: str | None) -> Iterator[Repository]:
    if project is not None:
        facts = locate.project_for(stores.database, _OPERATOR, project, locate.GitAction.PULL)
        yield stores.ledger.repository(facts.repository_id)
        return
    after_id = 0
    while page := stores.ledger.repositories(after_id=after_id):
        yield from page
        after_id = page[-1].id


def _findings(
    stores: Stores, tools: GitTools, repository: Repository, *, quick: bool, seen: set[str]
) -> Iterator[Finding]:
    stored = check(
        stores.ledger,
        stores.objects,
        database=stores.database,
        repository=repository.id,
        deep=not quick,
        seen=seen,
    )
    in_git = () if quick else _git_findings(stores, tools, repository.id)
    try:
        yield from chain(stored, in_git)
    except NoSuchRepository:
        yield Finding("note", repository.id, "was deleted during the check")


def _git_findings(stores: Stores, tools: GitTools, repository_id: int) -> Iterator[Finding]:
    try:
        for problem in verify.problems(
            repository_id, ledger=stores.ledger, copies=tools.copies, scratch=tools.scratch
        ):
            yield Finding("error", repository_id, problem)
    except NoSuchRepository:
        raise
    except MainstayError as problem:
        yield Finding("error", repository_id, f"git cannot look at it: {problem}")


def _path_of(repository: Repository) -> str:
    return str(repository.identity.get("full_path", repository.uid))


def _progress(line: str) -> None:
    """Only for somebody who watches: a log file needs none of it."""
    if sys.stderr.isatty():
        click.echo(line, err=True)
