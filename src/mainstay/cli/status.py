"""`mainstay status`: how is the node on this data directory?"""

import os
from dataclasses import asdict
from pathlib import Path

import click

from mainstay.boot.layout import Layout
from mainstay.boot.settings import load_for_command
from mainstay.boot.state import NodeState, read_state
from mainstay.cli.frame import data_option, json_option, show, table
from mainstay.foundation.errors import Unavailable


class NotRunning(Unavailable):
    """No `serve` runs on this data directory."""


@click.command
@data_option
@json_option
def command(data: Path | None, as_json: bool) -> int:
    """Ask a running node how it is. Exit code 0: ready; 1: starting or draining; 6: not running."""
    settings = load_for_command(data)
    state = read_state(Layout(settings.data).state)
    if state is None or not _runs(state):
        raise NotRunning(
            f"no node runs on {settings.data}; start one with `mainstay serve --data {settings.data}`"
        )
    show(asdict(state), as_json=as_json, text=_text(state))
    return 0 if state.phase == "ready" else 1


def _text(state: NodeState) -> str:
    rows = [
        (name, each.pid, "ready" if each.ready else "starting", each.restarts)
        for name, each in state.processes.items()
    ]
    processes = table(["process", "pid", "state", "restarts"], rows)
    return f"The node is {state.phase}: http {state.http}, ssh {state.ssh}.\n\n{processes}"


def _runs(state: NodeState) -> bool:
    """Whether the supervisor that wrote this is still there; a killed one leaves its last words behind."""
    try:
        os.kill(state.processes["serve"].pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
