"""HAProxy before the nodes: one address for HTTP and one for SSH, to whichever nodes are ready."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from mainstay.provision.local import processes
from mainstay.provision.local.member import Member, Place, is_listening, plain_environment
from mainstay.provision.local.node import Node
from mainstay.provision.local.processes import Command
from mainstay.provision.local.programs import find

_TEXT = """
global
    maxconn 4000
    stats socket {socket} mode 600 level admin

defaults
    mode http
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout http-request 20s
    option redispatch 1
    retries 3
    default-server check inter 500ms fastinter 200ms downinter 500ms rise 1 fall 2
    default-server on-marked-down shutdown-sessions

frontend http
    bind {http}
    option forwardfor
    default_backend nodes_http

backend nodes_http
    balance uri depth 2
    hash-type consistent
    retry-on conn-failure empty-response
    option httpchk GET /-/readiness
    timeout check 2s
{http_servers}

frontend ssh
    mode tcp
    bind {ssh}
    default_backend nodes_ssh

backend nodes_ssh
    mode tcp
    balance leastconn
    option httpchk GET /-/readiness
    timeout check 2s
{ssh_servers}
"""


class Haproxy(Member):
    """One balancer."""

    what = "HAProxy"

    def __init__(
        self,
        *,
        place: Place,
        directory: Path,
        nodes: Sequence[Node],
        http_port: int | None = None,
        ssh_port: int | None = None,
    ) -> None:
        super().__init__("lb", place=place, directory=directory)
        self.http_port = http_port or self._reserve_port()
        self.ssh_port = ssh_port or self._reserve_port()
        self.nodes = list(nodes)
        """Of the next `start` or `reload`."""
        self.configuration = directory / "haproxy.cfg"
        self._program = find("haproxy", package="haproxy")

    @property
    def address(self) -> str:
        return f"{self.place.host}:{self.http_port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def ssh_address(self) -> str:
        return f"{self.place.host}:{self.ssh_port}"

    def reload(self) -> None:
        """Read the configuration anew, without a refused connection."""
        self._write()
        for each in self.identities():
            processes.send(each, signal.SIGUSR2)

    def _write(self) -> None:
        self.configuration.write_text(self.configuration_text())

    def configuration_text(self) -> str:
        return _TEXT.format(
            socket=f"{self.directory / 'haproxy.sock'}",
            http=self.address,
            ssh=self.ssh_address,
            http_servers=_lines({each.name: each.http_address for each in self.nodes}),
            ssh_servers=_lines(
                {each.name: f"{each.ssh_address} port {each.http_port}" for each in self.nodes}
            ),
        )

    def _launch(self) -> None:
        self._write()
        self._spawn(
            Command(
                argv=[self._program, "-W", "-db", "-f", str(self.configuration)],
                environment=plain_environment(),
                directory=self.directory,
                run_prefix=self.place.run_prefix,
            )
        )

    def _answers(self) -> bool:
        return is_listening(self.place.host, self.http_port) and is_listening(self.place.host, self.ssh_port)


def _lines(servers: Mapping[str, str]) -> str:
    return "\n".join(f"    server {name} {where}" for name, where in servers.items())
