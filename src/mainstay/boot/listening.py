"""The public sockets. The supervisor opens them, the servers inherit them.

So a port in use is said at once, in the terminal; a restarted server loses no connection that waits in the
queue; and port 0 leaves the choice to the kernel without a gap in which somebody else could take the port.
"""

import errno
import socket

from mainstay.boot.parsing import Address
from mainstay.foundation.errors import Unavailable

_BACKLOG = 2048


class PortTaken(Unavailable):
    """Somebody else listens there."""


class CannotListen(Unavailable):
    """The address is not one of this machine, or this user may not use the port."""


def listen(address: Address, *, option: str) -> socket.socket:
    """Open the socket. `option` names the flag to change in the message of a failure."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _failure(address, option, error) from error
    return listener


def address_of(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return Address(host, port)


def _failure(address: Address, option: str, error: OSError) -> Unavailable:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            f"{address} is already in use by another program; choose another with {option} HOST:PORT"
        )
    return CannotListen(f"cannot listen on {address} ({option}): {error.strerror}")
