"""`mainstay node`: let machines in, drain them, forget them."""

import getpass
from pathlib import Path

import click

from mainstay.cli import node_upkeep
from mainstay.cli.durations import milliseconds
from mainstay.cli.frame import data_option, json_option, opened
from mainstay.cli.invitation import show_invitation


@click.group
def command() -> None:
    """Let machines in, and look after them."""


@command.command("token")
@click.option("--ttl", default="1h", show_default=True, help="How long it works, such as 30m, 1h, 2d.")
@data_option
@json_option
def token(ttl: str, data: Path | None, as_json: bool) -> None:
    """Print a token that lets one machine join, once. It is not kept anywhere."""
    ttl_ms = milliseconds(ttl)
    with opened(data, orm=False) as stores:
        from mainstay.boot.addresses import http_url  # noqa: PLC0415 - `--help` does not pay for it
        from mainstay.boot.inviting import new_token  # noqa: PLC0415 - same

        made = new_token(stores, by=getpass.getuser(), ttl_ms=ttl_ms)
        url = http_url(stores.settings)
    show_invitation(made, url=url, command="mainstay join", as_json=as_json)


command.add_command(node_upkeep.list_command)
command.add_command(node_upkeep.drain)
command.add_command(node_upkeep.forget)
