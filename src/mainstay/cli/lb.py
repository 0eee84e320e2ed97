"""`mainstay lb`: the configuration of a load balancer before the nodes.

mainstay lb haproxy --tls balancer --certificate /etc/haproxy/site.pem > /etc/haproxy/haproxy.cfg
mainstay lb keepalived --interface eth0 --address 10.0.0.10/24 --peer 10.0.0.2 > keepalived.conf
"""

import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from mainstay.cli.frame import data_option, opened
from mainstay.provision.balancers.description import BalancedNode, Balancer, parse_node
from mainstay.provision.balancers.haproxy import haproxy_configuration
from mainstay.provision.balancers.nginx import nginx_configuration
from mainstay.provision.balancers.trying import Program, try_configuration
from mainstay.provision.traffic.keepalived import FloatingAddress, keepalived_configuration

_LOOK_S = 1.0
_PORT = click.IntRange(0, 65535)
_OPTIONS = [
    click.option(
        "--node",
        "nodes",
        multiple=True,
        metavar="NAME=HOST[:HTTP[:SSH]]",
        help="May end with ,https=PORT,health=PORT; repeat it.  [default: the live nodes of the cluster]",
    ),
    click.option(
        "--tls",
        type=click.Choice(["off", "balancer", "node", "both"]),
        default="off",
        show_default=True,
        help="Where TLS ends.",
    ),
    click.option("--certificate", default="", metavar="FILE", help="PEM; for HAProxy with the key in it."),
    click.option("--certificate-key", default="", metavar="FILE", help="PEM; for nginx."),
    click.option(
        "--server-name",
        default="",
        metavar="NAME",
        help="In the nodes' certificates.  [default: external_url's]",
    ),
    click.option(
        "--node-authority", default="", metavar="FILE", help="PEM; who signed those.  [default: the system's]"
    ),
    click.option(
        "--listen",
        multiple=True,
        metavar="ADDRESS",
        default=["0.0.0.0"],  # noqa: S104 - a balancer is for everybody
        show_default=True,
        help="Repeat it.",
    ),
    click.option("--http-port", type=_PORT, default=80, show_default=True),
    click.option("--https-port", type=_PORT, default=443, show_default=True),
    click.option("--ssh-port", type=_PORT, default=22, show_default=True, help="0: no SSH."),
    click.option("--hsts", is_flag=True, help="Tell browsers to come by HTTPS only."),
    click.option(
        "--directory", default="", metavar="DIR", help="Where it may write.  [default: as Debian has it]"
    ),
    click.option(
        "--check", is_flag=True, help="Ask the real program whether it takes this; print nothing else."
    ),
    data_option,
]


def _described(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group
def command() -> None:
    """Configure a load balancer before the nodes."""


@command.command
@click.option(
    "--proxy-protocol",
    type=click.Choice(["off", "v1", "v2"]),
    default="v2",
    show_default=True,
    help="To the nodes.",
)
@_described
def haproxy(*, check: bool, data: Path | None, **given: Any) -> None:
    """Print a configuration for HAProxy 2.6 or newer.

    Ports 80, 443 and 22; requests about one repository to one node; nodes that are not ready get none.
    """
    _answer("haproxy", haproxy_configuration(_described_by(given, data)), check=check)


@command.command
@click.option(
    "--proxy-protocol",
    type=click.Choice(["off", "v1"]),
    default="v1",
    show_default=True,
    help="To the nodes.",
)
@click.option("--resting", multiple=True, metavar="NAME", help="A node that gets nothing new; repeat it.")
@_described
def nginx(*, check: bool, data: Path | None, resting: tuple[str, ...], **given: Any) -> None:
    """Print a configuration for nginx with its stream module.

    As for HAProxy, but nginx does not look whether nodes are ready: `mainstay lb watch` does.
    """
    _answer("nginx", nginx_configuration(_described_by(given, data), resting=resting), check=check)


@command.command
@click.option("--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="nginx.conf.")
@click.option(
    "--reload",
    "reload_command",
    default="nginx -s reload",
    show_default=True,
    help="What to run after a change.",
)
@click.option("--proxy-protocol", type=click.Choice(["off", "v1"]), default="v1", show_default=True)
@_described
def watch(*, output: Path, reload_command: str, check: bool, data: Path | None, **given: Any) -> None:
    """Look for nginx whether nodes are ready, once a second, until Ctrl-C.

    Writes the configuration and reloads nginx when a node must rest or is back, for HTTP and SSH. Without
    --node it also notices nodes that come and go. With --check it looks once.
    """
    from mainstay.provision.balancers.rounds import NginxRounds  # noqa: PLC0415 - only this command needs it

    rounds = NginxRounds(
        lambda: _described_by(dict(given), data), output=output, reload_command=shlex.split(reload_command)
    )
    rounds.turn()
    while not check:
        time.sleep(_LOOK_S)
        rounds.turn()


@command.command
@click.option("--interface", required=True, metavar="NAME", help="Where the address is to be, such as eth0.")
@click.option(
    "--address",
    "addresses",
    multiple=True,
    required=True,
    metavar="IP/LENGTH",
    help="The address that moves, such as 10.0.0.10/24; repeat it.",
)
@click.option(
    "--peer", "peers", multiple=True, required=True, metavar="IP", help="Each other machine; repeat it."
)
@click.option("--source", default="", metavar="IP", help="This machine.  [default: as the interface has it]")
@click.option(
    "--state",
    type=click.Choice(["auto", "master", "backup"]),
    default="auto",
    show_default=True,
    help="To begin with; auto waits for what the nodes answer.",
)
@click.option(
    "--router-id", type=int, default=51, show_default=True, help="The same on all machines, and no other's."
)
@click.option("--priority", type=int, default=100, show_default=True, help="The same on all machines.")
@click.option(
    "--settle",
    "settle_s",
    type=int,
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="How long requests at the old primary have to end.",
)
@click.option(
    "--status-url",
    default="http://127.0.0.1:8080/status",
    show_default=True,
    help="Of the node on this machine.",
)
@click.option("--notify", default="", metavar="FILE", help="A program to tell of moves; none is needed.")
@click.option("--check", is_flag=True, help="Ask the real program whether it takes this; print nothing else.")
def keepalived(*, check: bool, addresses: tuple[str, ...], peers: tuple[str, ...], **given: Any) -> None:
    """Print a configuration for keepalived 2.2 or newer: an address that follows the primary.

    VRRP by unicast between machines of one network; `/status` decides who has the address.
    """
    floating = FloatingAddress(addresses=addresses, peers=peers, **given)
    _answer("keepalived", keepalived_configuration(floating), check=check)


def _answer(program: Program, text: str, *, check: bool) -> None:
    click.echo(try_configuration(program, text) if check else text, nl=check)


def _described_by(given: dict[str, Any], data: Path | None) -> Balancer:
    nodes = tuple(parse_node(each) for each in given.pop("nodes"))
    balancer = Balancer(**{**given, "nodes": nodes, "listen": tuple(given["listen"])})
    return balancer if nodes else _from_cluster(balancer, data)


def _from_cluster(balancer: Balancer, data: Path | None) -> Balancer:
    """With what the cluster knows filled in."""
    with opened(data, orm=False) as stores:
        from mainstay.cluster.nodes import live_nodes  # noqa: PLC0415 - `--help` does not pay for a driver

        rows = live_nodes(stores.database)
        name = urlsplit(stores.settings.external_url).hostname or ""
    names = [row.name for row in rows]
    nodes = tuple(
        BalancedNode(
            name=row.name if names.count(row.name) == 1 else f"{row.name}-{row.id[-6:].lower()}",
            host=_host(row.http),
            http=_port(row.http),
            https=_port(str(row.facts.get("https", ""))),
            ssh=_port(row.ssh),
            health=_port(row.health) if row.health != row.http else 0,
            serves_http="web" in row.roles,
        )
        for row in rows
    )
    return replace(balancer, nodes=nodes, server_name=balancer.server_name or name)


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _port(address: str) -> int:
    return int(address.rpartition(":")[2] or 0)
