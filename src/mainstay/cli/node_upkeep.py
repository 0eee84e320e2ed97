"""`mainstay node list`, `drain` and `forget`: look after the nodes that are there."""

import time
from pathlib import Path
from typing import Any

import click

from mainstay.boot.settings import load_for_command
from mainstay.cli.frame import data_option, json_option, opened, show, table
from mainstay.foundation.errors import Unavailable

_LOOK_EVERY_S = 0.5


class NotDrained(Unavailable):
    """The node has not ended within the time that was waited."""


@click.command("list")
@data_option
@json_option
def list_command(data: Path | None, as_json: bool) -> None:
    """List all nodes that have ever started and were not forgotten."""
    from mainstay.cluster import nodes  # noqa: PLC0415 - `--help` does not pay for a database driver
    from mainstay.cluster.overview import shape_of  # noqa: PLC0415 - same

    with opened(data, orm=False) as stores:
        listing = nodes.list_nodes(stores.database)
    shapes = [shape_of(node, listing.now_ms) for node in listing.nodes]
    rows = [[each["name"], each["id"], each["state"], ",".join(each["roles"])] for each in shapes]
    show(shapes, as_json=as_json, text=table(["node", "id", "state", "roles"], rows))


@click.command
@click.argument("node", required=False)
@click.option(
    "--wait", "wait_s", type=click.IntRange(0, 3600), default=0, help="Seconds to wait for its end."
)
@data_option
@json_option
def drain(node: str | None, wait_s: int, data: Path | None, as_json: bool) -> None:
    """Ask NODE (a name or an id; without it, the node on this data directory) to drain and end.

    It leaves the balancer, finishes the requests it has, and ends. Nothing is lost, and no request fails.
    """
    from mainstay.cluster import nodes  # noqa: PLC0415 - `--help` does not pay for a database driver

    with opened(data, orm=False) as stores:
        wanted = node or nodes.node_id(load_for_command(data).data)
        asked = nodes.ask_to_drain(stores.database, wanted)
        condition = _wait_for_end(stores.database, asked.id, wait_s)
    shown = {"id": asked.id, "name": asked.name, "state": condition}
    text = f"Node {asked.name} was asked to drain; it is {condition}."
    show(shown, as_json=as_json, text=text)
    if wait_s and condition not in _ENDED:
        raise NotDrained(f"node {asked.name} is still {condition} after {wait_s} s")


@click.command
@click.argument("node")
@data_option
@json_option
def forget(node: str, data: Path | None, as_json: bool) -> None:
    """Take NODE, which will not come back, off the list."""
    from mainstay.cluster import nodes  # noqa: PLC0415 - `--help` does not pay for a database driver

    with opened(data, orm=False) as stores:
        gone = nodes.forget(stores.database, node)
    show({"id": gone.id, "name": gone.name}, as_json=as_json, text=f"Node {gone.name} is forgotten.")


_ENDED = ("stopped", "dead")


def _wait_for_end(database: Any, node_id: str, wait_s: int) -> str:
    """What the node is after at most `wait_s`."""
    from mainstay.cluster import nodes  # noqa: PLC0415 - as above

    deadline_s = time.monotonic() + wait_s
    while True:
        listing = nodes.list_nodes(database)
        condition = next(
            (nodes.condition_of(each, listing.now_ms) for each in listing.nodes if each.id == node_id),
            "stopped",
        )
        if condition in _ENDED or time.monotonic() >= deadline_s:
            return condition
        time.sleep(_LOOK_EVERY_S)
