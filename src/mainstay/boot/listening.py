"""The public sockets. The supervisor opens them, the servers inherit them.

So a port in use is said at once, in the terminal; a restarted server loses no connection that waits in the
queue; and port 0 leaves the choice to the kernel without a gap in which somebody else could take the port.
"""

import errno
import socket
from dataclasses import dataclass, replace

from mainstay.boot.parsing import Address
from mainstay.boot.settings import NodeSettings
from mainstay.foundation.errors import Unavailable

_BACKLOG = 2048


class PortTaken(Unavailable):
    """Somebody else listens there."""


class CannotListen(Unavailable):
    """The address is not one of this machine, or this user may not use the port."""


@dataclass(frozen=True, slots=True)
class PublicSockets:
    """What a node listens on, by setting. `https`, `health`, `sites` and `rpc` only when they are wanted,
    `ssh` and `rpc` by role.
    """

    http: socket.socket
    ssh: socket.socket | None = None
    https: socket.socket | None = None
    health: socket.socket | None = None
    rpc: socket.socket | None = None
    sites: socket.socket | None = None

    def inherited_by_data(self) -> dict[str, int]:
        """For the data processes: variable and descriptor."""
        given = {
            "HTTP_FD": self.http,
            "HTTPS_FD": self.https,
            "HEALTH_FD": self.health,
            "SITES_FD": self.sites,
        }
        return {name: listener.fileno() for name, listener in given.items() if listener}

    def close_http(self) -> None:
        """All that the data processes serve."""
        for listener in (self.http, self.https, self.health, self.sites):
            if listener:
                listener.close()

    def close_ssh(self) -> None:
        if self.ssh:
            self.ssh.close()

    def close_rpc(self) -> None:
        if self.rpc:
            self.rpc.close()

    def close(self) -> None:
        self.close_http()
        self.close_ssh()
        self.close_rpc()


def open_sockets(settings: NodeSettings) -> tuple[PublicSockets, NodeSettings]:
    """Open them all, and say where they really are: port 0 has become a number."""
    http = listen(settings.http, option="--http")
    ssh = listen(settings.ssh, option="--ssh") if "ssh" in settings.roles else None
    https = listen(settings.https, option="--https") if settings.https else None
    health = listen(settings.health, option="--health") if settings.health else None
    rpc = listen(settings.rpc, option="--rpc") if settings.rpc and "git" in settings.roles else None
    sites = listen(settings.sites, option="--sites") if settings.sites else None
    actual = replace(
        settings,
        http=address_of(http),
        ssh=address_of(ssh) if ssh else settings.ssh,
        https=address_of(https) if https else None,
        health=address_of(health) if health else None,
        rpc=address_of(rpc) if rpc else settings.rpc,
        sites=address_of(sites) if sites else None,
    )
    return PublicSockets(http, ssh, https, health, rpc, sites), actual


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
