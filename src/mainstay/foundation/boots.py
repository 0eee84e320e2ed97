"""Which boot of the machine this is, and a clock that all its processes share."""

import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def boot_id() -> str:
    """Another one after every boot of the machine; empty where the system has no such thing."""
    try:
        return _BOOT_ID.read_text().strip()
    except FileNotFoundError:
        return ""


def since_boot_s() -> float:
    """Seconds since the machine was booted, the same in all its processes.

    Where there is such a clock (Linux), one that goes on while the machine sleeps: who measures how long
    he may still do something must not wake up and believe that no time has passed.
    """
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
