"""The process that runs on a data directory, whoever started it."""

import signal
from pathlib import Path
from typing import Literal

from mainstay.provision import processes
from mainstay.provision.processes import Identity

How = Literal["fast", "immediate"]
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_IMMEDIATE_S_MAX = 10.0


def postmaster_of(data: Path) -> Identity | None:
    """By the file that it keeps; None when none runs there."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        identity = processes.identity_of(int(lines[0]))
    except (OSError, ValueError, IndexError):
        return None
    return identity if identity and _runs_in(identity.pid, data) else None


def stop(data: Path, *, how: How, within_s: float) -> bool:
    """End it: `fast` writes everything and ends connections, `immediate` leaves the rest to the next start.

    What takes longer than its time is ended the harder way. Whether the wished one was enough.
    """
    found = postmaster_of(data)
    if found is None:
        return True
    if how == "fast":
        processes.send(found, _SIGNALS["fast"])
        if processes.all_gone([found], within_s=within_s):
            return True
        within_s = _IMMEDIATE_S_MAX
    was_enough = processes.stop([found], number=_SIGNALS["immediate"], within_s=within_s)
    return was_enough and how == "immediate"


def _runs_in(pid: int, directory: Path) -> bool:
    """Whether a process works in this directory: a stale pid file may name anybody."""
    try:
        return Path(f"/proc/{pid}/cwd").resolve() == directory.resolve()
    except OSError:
        return False
