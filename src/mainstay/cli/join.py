"""`mainstay join`: make this machine a node of a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mainstay.boot.inviting import LOCAL
from mainstay.cli.frame import data_option, json_option, show

_HELP = {
    "http": "Where this node listens for HTTP, HOST:PORT.",
    "ssh": "Where it listens for SSH, HOST:PORT.",
    "rpc": "Where it offers its Git service to other nodes, HOST:PORT.",
    "https": "Where it ends TLS, HOST:PORT.",
    "health": "A plain port for health checks only, HOST:PORT.",
    "roles": "What it does: web,git,ssh,worker.",
    "node_name": "What people call it.",
    "node_address": "Where other nodes reach it.",
    "node_labels": "Placement labels with commas between.",
}


def _local_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name in reversed(LOCAL):
        shown = {"help": _HELP[name]} if name in _HELP else {"hidden": True}
        command = click.option(f"--{name.replace('_', '-')}", name, **shown)(command)
    return command


@click.command
@click.argument("url")
@click.option("--token", required=True, envvar="MAINSTAY_JOIN_TOKEN", help="From `mainstay node token`.")
@data_option
@_local_options
@click.option("--database-url", help="When this machine reaches the database by another address.")
@click.option("--object-store", help="When this machine reaches the objects by another address.")
@click.option("--force", is_flag=True, help="Take a data directory over that belongs to something else.")
@json_option
def command(
    *, url: str, token: str, data: Path | None, force: bool, as_json: bool, **local: str | None
) -> None:
    """Join the cluster of which URL is a node, or the balancer in front.

    Writes settings, master key and identity into the data directory, and looks whether database and object
    store can be reached from here. Works again on the same cluster, and repairs what is missing.
    """
    from mainstay.boot.joining import join  # noqa: PLC0415 - `--help` does not pay for a database driver
    from mainstay.cluster.joining import parse_token  # noqa: PLC0415 - same
    from mainstay.foundation import logs  # noqa: PLC0415 - same

    logs.configure(process="cli", level="warning")
    where = (data or Path("data")).absolute()
    given = {name: text for name, text in local.items() if text is not None}
    joined = join(url, parse_token(token), where, given, force=force)
    answer = {"instance": joined.instance, "data": str(where), "repaired": joined.repaired}
    what = "belongs to the cluster as before" if joined.repaired else "is a node of the cluster now"
    text = f"This machine {what} (instance {joined.instance}).\nStart it: mainstay serve --data {where}"
    show(answer, as_json=as_json, text=text)
