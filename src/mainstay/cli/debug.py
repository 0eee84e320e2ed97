"""`mainstay debug`: tools for those who break things on purpose."""

import importlib
import pkgutil
from collections.abc import Iterator

import click

import mainstay
from mainstay.boot import setup_django
from mainstay.cli.frame import json_option, show, table
from mainstay.foundation import failpoints

_NOT_ROOMS = ("mainstay.__main__", "mainstay.boot.", "mainstay.cli")
"""Programs rather than rooms: they declare no points, and importing some of them does things."""


@click.group
def command() -> None:
    """Tools for those who break things on purpose."""


@command.command("failpoints")
@json_option
def list_failpoints(as_json: bool) -> None:
    """List the places where a process can be made to die, wait or fail.

    Arm them with MAINSTAY_FAILPOINTS=name=kill|error|sleep:SECONDS[@N][,…] in the environment of `serve`.
    """
    _import_all_rooms()
    points = failpoints.declared()
    shown = [{"name": point.name, "meaning": point.meaning} for point in points]
    rows = [(point.name, point.meaning) for point in points]
    show(shown, as_json=as_json, text=table(["failpoint", "when it is passed"], rows))


def _import_all_rooms() -> None:
    """Points are declared by imports, so all rooms are imported. Models need Django first."""
    setup_django()
    for name in _modules():
        importlib.import_module(name)


def _modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(mainstay.__path__, "mainstay."):
        if not module.name.startswith(_NOT_ROOMS) and ".migrations." not in module.name:
            yield module.name
