"""`mainstay repo`: look at a repository's refs as they were, bring them back, compact it now."""

from pathlib import Path

import click

from mainstay.access.actors import Actor, Kind
from mainstay.boot.git import git_tools
from mainstay.boot.stores import Stores
from mainstay.cli.frame import data_option, json_option, opened, show, table
from mainstay.foundation.clock import iso8601
from mainstay.git.objectnames import oid, ref_name, shown
from mainstay.product.projects import locate

_OPERATOR = Actor(kind=Kind.SYSTEM, name="operator", is_admin=True)


@click.group("repo")
def command() -> None:
    """Look at and mend a repository."""


@command.command()
@click.argument("project")
@click.argument("ref")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="At most so many moves.")
@data_option
@json_option
def reflog(project: str, ref: str, limit: int, data: Path | None, as_json: bool) -> None:
    """Show the moves of REF (`main`, or in full `refs/tags/v1`) in PROJECT, newest first."""
    with opened(data) as stores, git_tools(stores) as tools:
        moves = tools.reflog.moves(_repository_of(stores, project), ref_name(_full(ref)), limit=limit)
    rows = [(m.version, iso8601(m.at_ms), m.actor, m.old[:12], m.new[:12]) for m in moves]
    answer = [
        {
            "version": m.version,
            "at": iso8601(m.at_ms),
            "actor": m.actor,
            "push_id": m.push_id,
            "old": m.old,
            "new": m.new,
        }
        for m in moves
    ]
    show(answer, as_json=as_json, text=table(["version", "at", "by", "old", "new"], rows))


@command.command("restore-ref")
@click.argument("project")
@click.argument("ref")
@click.option("--to", "target", help="The object to point to; default: what REF was before its last move.")
@data_option
@json_option
def restore_ref(project: str, ref: str, target: str | None, data: Path | None, as_json: bool) -> None:
    """Point REF of PROJECT back to a value that its reflog shows."""
    with opened(data) as stores, git_tools(stores) as tools:
        change = tools.reflog.restore(
            _repository_of(stores, project),
            ref_name(_full(ref)),
            to=oid(target) if target is not None else None,
            by=_OPERATOR,
        )
    answer = {"ref": shown(change.name), "old": change.old, "new": change.new}
    show(answer, as_json=as_json, text=f"{shown(change.name)}: {change.old[:12]} -> {change.new[:12]}")


@command.command()
@click.argument("project")
@data_option
@json_option
def maintain(project: str, data: Path | None, as_json: bool) -> None:
    """Compact PROJECT now, if it needs it. Workers do the same by themselves."""
    with opened(data) as stores, git_tools(stores) as tools:
        said = tools.maintenance.maintain(_repository_of(stores, project))
    show({"project": project, "result": said}, as_json=as_json, text=said)


def _repository_of(stores: Stores, project: str) -> int:
    facts = locate.project_for(stores.database, _OPERATOR, project, locate.GitAction.PULL)
    return facts.repository_id


def _full(ref: str) -> str:
    return ref if ref.startswith("refs/") else f"refs/heads/{ref}"
