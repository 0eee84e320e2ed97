"""`mainstay job`: what waits, what runs, and what failed too often in the queue of the workers."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mainstay.cli.frame import data_option, json_option, opened, show, table
from mainstay.foundation.clock import SYSTEM, iso8601

if TYPE_CHECKING:
    from mainstay.jobs.overview import JobRow, State

_ERROR_CHARS = 80


@click.group
def command() -> None:
    """Look at the queue of jobs, and try again what failed."""


@command.command("list")
@click.option("--state", type=click.Choice(["failed", "running", "waiting"]), help="Only jobs in this state.")
@data_option
@json_option
def list_jobs(state: "State | None", data: Path | None, as_json: bool) -> None:
    """List jobs, the longest due first, 1000 at most. `failed` are those that nobody tries any more."""
    from mainstay.jobs import overview  # noqa: PLC0415 - `--help` does not pay for a database driver

    with opened(data, orm=False) as stores, stores.database.read() as tx:
        rows = [_row(job) for job in overview.listed(tx, state)]
    head = ("id", "name", "state", "attempts", "due_at", "error")
    cells = [[*(row[column] for column in head[:-1]), _short(row["error"])] for row in rows]
    show(rows, as_json=as_json, text=table(head, cells))


@command.command
@click.argument("job_ids", metavar="ID...", type=int, nargs=-1)
@click.option("--all-failed", is_flag=True, help="All that failed too often.")
@data_option
@json_option
def revive(*, job_ids: tuple[int, ...], all_failed: bool, data: Path | None, as_json: bool) -> None:
    """Try failed jobs again, as if they were new. Repair the reason first: `job list --state failed` has it.

    One that waits or runs anyway is left alone. With an unknown ID nothing changes.
    """
    from mainstay.jobs import overview  # noqa: PLC0415 - `--help` does not pay for a database driver

    if bool(job_ids) == all_failed:
        raise click.UsageError("name jobs by their ids, or say --all-failed")
    with opened(data, orm=False) as stores, stores.database.write() as tx:
        chosen = [job.id for job in overview.listed(tx, "failed")] if all_failed else job_ids
        rows = [_row(job) for job in overview.revive(tx, chosen, now_ms=SYSTEM.now_ms())]
    show(rows, as_json=as_json, text=_lines(rows, "is tried again", "nothing has failed"))


@command.command
@click.argument("job_ids", metavar="ID...", type=int, nargs=-1, required=True)
@data_option
@json_option
def forget(job_ids: tuple[int, ...], data: Path | None, as_json: bool) -> None:
    """Give up failed jobs: they are removed from the queue. One that waits or runs is left alone."""
    from mainstay.jobs import overview  # noqa: PLC0415 - `--help` does not pay for a database driver

    with opened(data, orm=False) as stores, stores.database.write() as tx:
        rows = [_row(job) for job in overview.forget(tx, job_ids)]
    show(rows, as_json=as_json, text=_lines(rows, "is left alone", "", failed="is given up"))


def _row(job: "JobRow") -> dict[str, Any]:
    facts = asdict(job)
    return {**facts, "due_at": iso8601(facts.pop("due_ms"))}


def _lines(rows: Sequence[dict[str, Any]], otherwise: str, none: str, *, failed: str = "") -> str:
    said = [
        f"job {row['id']} ({row['name']}) {failed if row['state'] == 'failed' else otherwise}" for row in rows
    ]
    return "\n".join(said) or none


def _short(error: str) -> str:
    line = " ".join(error.split())
    return line if len(line) <= _ERROR_CHARS else f"{line[: _ERROR_CHARS - 1]}…"
