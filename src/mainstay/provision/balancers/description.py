"""What there is to balance: which nodes, on which ports, where TLS ends, how a client's address travels.

Over HTTP the address travels in `X-Forwarded-For`. Where the balancer does not look into a connection, as
with SSH and with TLS that ends at the node, it travels in a PROXY header before it.
"""

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal

from mainstay.foundation.errors import Invalid

Tls = Literal["off", "balancer", "node", "both"]
"""Where TLS ends: nowhere, at the balancer, at the node, or at the balancer and again at the node."""
ProxyProtocol = Literal["off", "v1", "v2"]

HTTP_PORT, HTTPS_PORT, SSH_PORT = 8080, 8443, 2222
"""Of a node that does not say."""
_ROOT_PORTS = 1024
_PORT_MAX = 65535
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?){1,32}")
_FILE = re.compile(r"[A-Za-z0-9@%+=:,./_-]+")
_OPTION = re.compile(r"(https|health)=([0-9]{1,5})")


class BadDescription(Invalid):
    """Nothing can be balanced like that; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancedNode:
    """One node as the balancer reaches it. A port of 0 is not there."""

    name: str
    host: str
    http: int = HTTP_PORT
    https: int = HTTPS_PORT
    ssh: int = SSH_PORT
    health: int = 0
    """A plain port for health only; without one readiness is asked at `http`."""
    serves_http: bool = True
    """False: its roles leave it no people over HTTP."""

    @property
    def readiness(self) -> str:
        return self.at(self.health or self.http)

    def at(self, port: int) -> str:
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """Everything that a configuration depends on."""

    nodes: tuple[BalancedNode, ...]
    tls: Tls = "off"
    certificate: str = ""
    """PEM file on the balancer. HAProxy wants the key in it."""
    certificate_key: str = ""
    """For nginx."""
    node_authority: str = ""
    """PEM file of who signed the certificates of the nodes, for `both`; empty: whom the system trusts."""
    server_name: str = ""
    """The name in the certificates of the nodes, for `both`."""
    listen: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104 - a balancer is for everybody
    """Addresses of the balancer to listen on."""
    http_port: int = 80
    https_port: int = 443
    ssh_port: int = 22
    """0: no SSH here."""
    proxy_protocol: ProxyProtocol = "v2"
    hsts: bool = False
    """Tell browsers to come by HTTPS only, for a year."""
    directory: str = ""
    """Where the balancer may write; empty: where Debian's package does."""

    @property
    def http_nodes(self) -> list[BalancedNode]:
        return [node for node in self.nodes if node.serves_http]

    @property
    def ssh_nodes(self) -> list[BalancedNode]:
        return [node for node in self.nodes if node.ssh] if self.ssh_port else []

    @property
    def needs_root(self) -> bool:
        """To begin with: ports below 1024 are opened before it becomes somebody else."""
        ports = [self.http_port, self.https_port if self.tls != "off" else 0, self.ssh_port]
        return any(0 < port < _ROOT_PORTS for port in ports)

    @property
    def connect_ms_max(self) -> int:
        """Until another node is tried: a machine that is gone says nothing. TLS takes a busy node longer."""
        return 2000 if self.tls == "both" else 800

    @property
    def announced_doors(self) -> list[str]:
        """Where its connections begin with a PROXY header."""
        if self.proxy_protocol == "off":
            return []
        return [*(["https"] if self.tls == "node" else []), *(["ssh"] if self.ssh_nodes else [])]

    def at(self, port: int) -> list[str]:
        """Its own addresses with this port."""
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in self.listen]


def checked(balancer: Balancer) -> Balancer:
    """The same; raises `BadDescription` when no configuration can come of it."""
    for problem in _problems(balancer):
        raise BadDescription(problem)
    return balancer


def parse_node(text: str) -> BalancedNode:
    """`NAME=HOST[:HTTP[:SSH]][,https=PORT][,health=PORT]`. Raises `BadDescription`."""
    address, *options = text.split(",")
    name, equals, where = address.partition("=")
    host, ports = _host_and_ports(where)
    if not (equals and _NAME.fullmatch(name) and (_is_ip(host) or _HOST.fullmatch(host)) and len(ports) <= 2):  # noqa: PLR2004 - http and ssh
        raise BadDescription(
            f"{text!r} is not NAME=HOST[:HTTP[:SSH]][,https=PORT][,health=PORT], such as n1=10.0.0.1:8080"
        )
    numbers = dict(zip(("http", "ssh"), (_port(each, text) for each in ports), strict=False))
    for option in options:
        found = _OPTION.fullmatch(option)
        if not found:
            raise BadDescription(f"{text!r}: {option!r} is neither https=PORT nor health=PORT")
        numbers[found[1]] = _port(found[2], text)
    return replace(BalancedNode(name=name, host=host), **numbers)  # type: ignore[arg-type]  # all of them ports


def _host_and_ports(text: str) -> tuple[str, list[str]]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.split(":")[1:]
    host, *ports = text.split(":")
    return host, ports


def _port(digits: str, of: str) -> int:
    if not (digits.isascii() and digits.isdigit()) or not 0 < int(digits) <= _PORT_MAX:
        raise BadDescription(f"{of!r}: {digits!r} is no port")
    return int(digits)


def _is_ip(text: str) -> bool:
    try:
        return "%" not in text and bool(ip_address(text))
    except ValueError:
        return False


def _problems(balancer: Balancer) -> list[str]:
    found = []
    if not balancer.http_nodes:
        found.append("there is no node that serves HTTP; name nodes with --node NAME=HOST")
    names = [node.name for node in balancer.nodes]
    found += [f"two nodes are called {name!r}" for name in sorted({*names}) if names.count(name) > 1]
    found += [
        f"node {node.name!r} has no https port, and TLS is to end there"
        for node in balancer.http_nodes
        if balancer.tls in ("node", "both") and not node.https
    ]
    if balancer.tls in ("balancer", "both") and not balancer.certificate:
        found.append(f"--tls {balancer.tls} needs --certificate FILE")
    if balancer.tls == "both" and not balancer.server_name:
        found.append("--tls both needs --server-name NAME, which the certificates of the nodes must have")
    if balancer.hsts and balancer.tls not in ("balancer", "both"):
        found.append("--hsts needs TLS that ends at the balancer: elsewhere it cannot add a header")
    found += [
        f"{text!r}: use letters, digits and -._/ only"
        for text in (
            balancer.certificate,
            balancer.certificate_key,
            balancer.node_authority,
            balancer.directory,
            balancer.server_name,
        )
        if text and not _FILE.fullmatch(text)
    ]
    found += [f"{host!r} is no address to listen on" for host in balancer.listen if not _is_ip(host)]
    return found
