"""`mainstay failover`: a replica becomes the primary while everything is well."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from mainstay.cli.frame import data_option, json_option, opened, show
from mainstay.foundation.errors import Invalid


class NotAsked(Invalid):
    """Nobody is there to say yes."""


@click.command
@click.option(
    "--to", "name", required=True, metavar="NAME", help="The replica, as `replica status` calls it."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@json_option
def command(name: str, *, yes: bool, data: Path | None, as_json: bool) -> None:
    """Hand over to a replica, on the primary. Nothing is lost; writes wait for seconds.

    When the replica does not have everything in time, all is as before. Afterwards this site is a replica.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise NotAsked("nobody is there to say yes: give --yes")
        click.confirm(f"Let {name} be the primary?", abort=True, err=True)
    with opened(data, orm=False) as stores:
        from mainstay.boot.failover import hand_over  # noqa: PLC0415 - `--help` does not pay for a database

        done = hand_over(stores, name, tell=lambda line: click.echo(line, err=True))
    text = f"{done.to} is the primary, with epoch {done.epoch}; writes waited for {done.paused_s:.1f} s."
    show(asdict(done), as_json=as_json, text=text)
