"""`mainstay db`: move the database."""

from dataclasses import asdict
from pathlib import Path

import click

from mainstay.boot.moving import look, move_database
from mainstay.boot.settings import load_for_command
from mainstay.cli.config import without_password
from mainstay.cli.frame import data_option, json_option, quiet, show
from mainstay.foundation import failpoints
from mainstay.foundation.settings import from_environment
from mainstay.ops.moving.move import Moved, Plan


@click.group
def command() -> None:
    """Move the database from SQLite to PostgreSQL."""


@command.command
@click.option(
    "--to", metavar="URL", default="managed", help="postgresql://…, or managed.  [default: managed]"
)
@click.option("--check", "only_look", is_flag=True, help="Only say what would happen; change nothing.")
@data_option
@json_option
def move(to: str, only_look: bool, data: Path | None, as_json: bool) -> None:
    """Move everything from SQLite to PostgreSQL, verified row by row. The node must be stopped.

    The target is a PostgreSQL that the node runs itself from then on (`managed`), or an empty database of
    yours. The next `mainstay serve` uses it. The SQLite file is kept under another name. A move that was
    broken off is repeated by the same command; until its last moment the node is as it was.
    """
    quiet()
    failpoints.arm(from_environment("FAILPOINTS") or "")
    settings = load_for_command(data)
    shown = without_password(to)
    if only_look:
        found = look(settings, to)
        show(_plan_answer(found, shown), as_json=as_json, text=_plan_text(found, shown))
        return
    done, aside = move_database(settings, to, tell=lambda line: click.echo(line, err=True))
    show(_answer(done, shown, aside), as_json=as_json, text=_text(done, shown, aside))


def _plan_answer(found: Plan, to: str) -> dict[str, object]:
    return {**asdict(found), "seconds": found.seconds, "to": to}


def _plan_text(found: Plan, to: str) -> str:
    return (
        f"Would move {found.rows_in_sum} rows in {len(found.rows)} tables"
        f" ({found.size_bytes / 2**20:.1f} MiB) of instance {found.instance} to {to},"
        f" in about {found.seconds} s. Nothing was changed."
    )


def _answer(done: Moved, to: str, aside: Path) -> dict[str, object]:
    tables = {table: {"rows": each.rows, "sum": f"{each.hashes:064x}"} for table, each in done.tables.items()}
    return {
        "instance": done.instance,
        "to": to,
        "tables": tables,
        "rows": done.rows_in_sum,
        "seconds": round(done.took_s, 1),
        "kept": str(aside),
    }


def _text(done: Moved, to: str, aside: Path) -> str:
    return (
        f"Moved {done.rows_in_sum} rows in {len(done.tables)} tables to {to} in {done.took_s:.0f} s;"
        " every table was read back and is the same.\n"
        f"The next `mainstay serve` uses it. The SQLite file is kept: {aside}"
    )
