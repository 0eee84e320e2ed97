"""Two sites on this machine, each with a node and a PostgreSQL of its own: `berlin` is a replica of `paris`.

    with two_sites(roomy_path) as sites:
        sites.paris.clone_url("root/engine"); sites.berlin.get("/status")

It is made by what `mainstay replica add` does.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainstay.boot.managed_database import server_of
from mainstay.boot.replica import Wish, add
from mainstay.cluster.epochs.raising import raise_epoch
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.joining import parse_token
from mainstay.cluster.sites.registry import SiteMode
from mainstay.foundation.clock import SYSTEM
from mainstay.provision.postgresql import Primary, Server, Standby
from mainstay.storage.database.postgresql import PostgresqlDatabase
from mainstay.storage.objects.opening import open_object_store
from support import managed
from support.node import Node
from support.ports import free_pair
from support.servers import wait_until

_S_MAX = 60


class ReplicaNode(Node):
    """One of several sites: ready as the primary, or when its balancer's probe says that it is not."""

    def _is_serving(self) -> bool:
        return self.get("/status")[0] in (200, 503)


@dataclass(frozen=True)
class Sites:
    """The nodes, and what is needed to change their roles."""

    paris: Node
    berlin: ReplicaNode

    def server_of(self, node: Node) -> Server:
        return server_of(node.data)

    def wait_until_caught_up(self) -> None:
        """Everything that was committed on the primary has been replayed."""
        written = Primary(self.server_of(self.paris)).lsn()
        standby = Standby(self.server_of(self.berlin))
        wait_until(lambda: standby.lag().replayed >= written, timeout_s=_S_MAX, what="replay")

    def promote_berlin(self) -> None:
        """The shortest way: no questions, no hooks."""
        server = self.server_of(self.berlin)
        Standby(server).promote()
        database = PostgresqlDatabase(server.url())
        objects = open_object_store(str(self.berlin.data / "objects"))
        site = SiteFile(self.berlin.data)
        raise_epoch(site, database, objects, name="berlin", url=self.berlin.url, clock=SYSTEM)
        database.close()


@contextmanager
def two_sites(
    directory: Path,
    *,
    mode: SiteMode = "async",
    primary: Mapping[str, str] | None = None,
    replica: Mapping[str, str] | None = None,
) -> Iterator[Sites]:
    """`primary` and `replica`: variables of their environments."""
    managed.require_postgresql()
    options = ["--database-url", "managed"]
    ours = {"MAINSTAY_SITES": free_address(), "MAINSTAY_NODE_NAME": "paris", **(primary or {})}
    with ReplicaNode(directory / "paris", options=options, environment=ours) as paris:
        berlin = ReplicaNode(directory / "berlin", environment=replica)
        _add(paris, berlin, directory, mode)
        with berlin:
            yield Sites(paris, berlin)


def _add(paris: Node, berlin: ReplicaNode, directory: Path, mode: SiteMode) -> None:
    token = paris.run("replica", "token").stdout.strip()
    url = f"https://{paris.environment['MAINSTAY_SITES']}"
    local = {"sites": free_address(), "node_name": "berlin"}
    log = directory / "add.log"

    def tell(line: str) -> None:
        with log.open("a") as told:
            told.write(f"{line}\n")

    add(url, parse_token(token, "replica"), berlin.data, local, Wish(name="berlin", mode=mode), tell=tell)


def is_superseded(node: Node) -> bool:
    """Whether it says so itself."""
    done = node.run("replica", "status", "--json", check=False)
    return done.returncode == 2 and json.loads(done.stdout)["role"] == "superseded"


def free_address() -> str:
    """For `sites`: PostgreSQL takes the port after it."""
    return f"127.0.0.1:{free_pair()}"
