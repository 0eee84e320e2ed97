"""The numbers of a node's processes, kept in one directory while they run."""

import os
from pathlib import Path


def forget_dead(directory: Path) -> None:
    """Remove the live gauges of processes that are no more; their counters stay, because those count on.

    prometheus_client names the files `gauge_live…_PID.db`.
    """
    for file in directory.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not _is_alive(int(pid)):
            file.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
