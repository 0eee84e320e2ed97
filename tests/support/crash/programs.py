"""What a forked child of the nursery runs: the real processes of a node, and what prepares one.

`MAINSTAY_CRASH_BROKEN` names a wrong write order of `support.crash.broken` to run with instead.
"""

import os
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import rest_framework  # noqa: F401 - imported before the fork, like everything below

from mainstay.boot import child, data_plane, prepare, ssh
from mainstay.boot.git import git_tools
from mainstay.foundation.clock import SYSTEM, ManualClock
from mainstay.repository import maintenance
from mainstay.repository.maintenance import Maintenance, MaintenanceSettings
from mainstay.storage.sweep import sweep
from support.crash import broken
from support.crash.wire import Wire, build_gates

SCOPES = ["read_repository", "write_repository"]


def run(program: str, arguments: Sequence[str], listener: socket.socket) -> NoReturn:
    """Be that program; never returns into the nursery."""
    code = 0
    try:
        broken.break_as(os.environ.get("MAINSTAY_CRASH_BROKEN", ""))
        wire = Wire(listener)
        build_gates(wire)
        wire.close_gate(os.environ.get("MAINSTAY_CRASH_GATE", ""))
        wire.serve_beside()
        _PROGRAMS[program](*arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - a forked child must not run its parent's code
        traceback.print_exc()
        code = 70
    sys.stderr.flush()
    os._exit(code)


def _seed(public_key: str, answer: str) -> None:
    """Give root a token and a key."""
    with child.begun("seed"):
        from mainstay.product.accounts import lookup, services

        root = lookup.user_named("root")
        services.add_ssh_key(root, public_key)
        made = services.create_token(root, name="crash suite", scopes=SCOPES)
        Path(answer).write_text(made.plaintext)


def _maintain(repository_id: str, how: str, die_while_packing: str) -> None:
    """One step of compaction with thresholds that a few pushes reach. `how`: `merge` or `rebase`."""
    if die_while_packing:
        maintenance.run = lambda *_args, **_kwargs: os.kill(os.getpid(), 9)  # type: ignore[assignment]
    with child.begun("worker") as stores, git_tools(stores) as tools:
        uploads = tools.maintenance._uploads
        settings = MaintenanceSettings(
            scratch=tools.scratch, small_packs_max=1, base_objects_min=1 if how == "rebase" else 1_000_000
        )
        worker = Maintenance(ledger=stores.ledger, copies=tools.copies, uploads=uploads, settings=settings)
        said = worker.maintain(int(repository_id))
        assert not said.startswith("left alone"), said


def _sweep() -> None:
    """The sweeper, as it will be a month from now."""
    later = ManualClock(SYSTEM.now_ms())
    later.advance(30 * 24 * 3600)
    with child.begun("worker") as stores:
        sweep(stores.ledger, stores.objects, clock=later)


_PROGRAMS = {
    "prepare": prepare.main,
    "seed": _seed,
    "data_plane": data_plane.main,
    "ssh": ssh.main,
    "maintain": _maintain,
    "sweep": _sweep,
}
