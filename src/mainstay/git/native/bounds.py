"""Hold a process that runs within its limits, from outside: rlimits, and signals to all of its session.

Whatever is done here to a process that has just ended is done to nobody.
"""

import contextlib
import os
import resource
import signal
import time
from pathlib import Path

from mainstay.git.native.place import Limits

_WAIT_FOR_INPUT_S = 0.0002
_WAITS_FOR_INPUT_MAX = 5000


def apply(limits: Limits, pid: int) -> None:
    """Limit the running process, which never leaves a core dump."""
    _limit(pid, resource.RLIMIT_CORE, 0)
    if limits.data_bytes_max is not None:
        _limit(pid, resource.RLIMIT_DATA, limits.data_bytes_max)
    if limits.cpu_s_max is not None:
        _limit(pid, resource.RLIMIT_CPU, limits.cpu_s_max)


def limit_stack(limits: Limits, pid: int) -> None:
    """Limit the stack once the process waits for its input.

    Not earlier: the kernel ends exec by setting this limit, and no other, to what it was when exec began.
    """
    if limits.stack_bytes_max is None:
        return
    for _ in range(_WAITS_FOR_INPUT_MAX):
        if _is_asleep(pid):
            break
        time.sleep(_WAIT_FOR_INPUT_S)
    _limit(pid, resource.RLIMIT_STACK, limits.stack_bytes_max)


def _is_asleep(pid: int) -> bool:
    """Or has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    return status.rpartition(b") ")[2][:1] in b"SZX"


def _limit(pid: int, what: int, most: int) -> None:
    """Set the soft limit: only that may be raised again, and git does not raise its own.

    A process that has already ended needs no limit.
    """
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, what, (most, resource.RLIM_INFINITY))


def signal_group(pid: int, signal_number: signal.Signals) -> None:
    """Signal the process and the children it started: each git process leads its own session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal_number)
