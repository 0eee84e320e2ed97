"""HAProxy before the nodes: one address for HTTP and one for SSH, to whichever nodes are ready."""

import signal
from collections.abc import Sequence
from pathlib import Path

from mainstay.provision import processes
from mainstay.provision.balancers.description import BalancedNode, Balancer, ProxyProtocol
from mainstay.provision.balancers.haproxy import haproxy_configuration
from mainstay.provision.local.member import Member, Place, is_listening, plain_environment
from mainstay.provision.local.node import Node
from mainstay.provision.processes import Command
from mainstay.provision.programs import find


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
        self.proxy_protocol: ProxyProtocol = "off"
        """How nodes hear of a client's address over SSH. They must be told who sends it, too."""
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
        self.configuration.write_text(haproxy_configuration(self.description()))

    def description(self) -> Balancer:
        """What the configuration is made from: the same as `mainstay lb haproxy` makes."""
        return Balancer(
            nodes=tuple(_balanced(node) for node in self.nodes),
            listen=(self.place.host,),
            http_port=self.http_port,
            ssh_port=self.ssh_port,
            proxy_protocol=self.proxy_protocol,
            directory=str(self.directory),
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


def _balanced(node: Node) -> BalancedNode:
    return BalancedNode(name=node.name, host=node.place.host, http=node.http_port, https=0, ssh=node.ssh_port)
