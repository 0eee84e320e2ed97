"""Ports that stay ours while a member is down: nobody else of this kind takes them, nor does the kernel.

They lie below the range from which the kernel gives ports to outgoing connections. Between stacks of several
programs a name in the abstract namespace of Unix sockets is the reservation; it goes with its holder.
"""

import secrets
import socket
from contextlib import closing
from pathlib import Path

from mainstay.foundation.errors import Unavailable

_FIRST = 15_000
_KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES_MAX = 1_000


class NoPort(Unavailable):
    """Every port that was tried is taken."""


class Reservation:
    """One port. `close()` gives it back."""

    def __init__(self) -> None:
        end = max(int(_KERNELS_RANGE.read_text().split()[0]), _FIRST + _TRIES_MAX)
        for _ in range(_TRIES_MAX):
            port = _FIRST + secrets.randbelow(end - _FIRST)
            holder = _reserve(port)
            if holder is not None:
                self.port, self._holder = port, holder
                return
        raise NoPort("no free port was found")

    def close(self) -> None:
        self._holder.close()


def _reserve(port: int) -> socket.socket | None:
    """What holds it; None when somebody has it or listens there."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0mainstay-port-{port}")
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("0.0.0.0", port))  # noqa: S104 - bound for a moment and never listened on
    except OSError:
        holder.close()
        return None
    return holder
