"""Two sites on this machine, each with a node and a PostgreSQL of its own: `paris` is followed by `berlin`.

    with two_sites(roomy_path) as sites:
        sites.paris.clone_url("root/engine"); sites.berlin.get("/status")

What `mainstay replica add` does is done here by hand, step by step, so that tests of the doors need no more.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainstay.boot.managed_database import server_of
from mainstay.cluster.epochs.own import look_at
from mainstay.cluster.epochs.raising import found_site, raise_epoch
from mainstay.cluster.epochs.site import SiteFile
from mainstay.foundation.clock import SYSTEM
from mainstay.provision.postgresql import Listen, Primary, Server, Standby, Upstream
from mainstay.storage.database.postgresql import PostgresqlDatabase
from mainstay.storage.objects.opening import open_object_store
from support import managed
from support.managed import SiteAuthority
from support.node import Node
from support.servers import free_port, wait_until

_S_MAX = 60
_MANAGED = ("--database-url", "managed")


class ReplicaNode(Node):
    """Is ready when its balancer's probe says 503: it serves no people."""

    def _is_serving(self) -> bool:
        return self.get("/status")[0] in (200, 503)


@dataclass(frozen=True)
class Sites:
    """The nodes, and what is needed to change their roles."""

    paris: Node
    berlin: "ReplicaNode"
    authority: SiteAuthority

    def server_of(self, node: Node) -> Server:
        return server_of(node.data)

    def wait_until_caught_up(self) -> None:
        """Everything that was committed on the primary has been replayed."""
        written = Primary(self.server_of(self.paris)).lsn()
        standby = Standby(self.server_of(self.berlin))
        wait_until(lambda: standby.lag().replayed >= written, timeout_s=_S_MAX, what="replay")

    def promote_berlin(self) -> None:
        Standby(self.server_of(self.berlin)).promote()
        database = PostgresqlDatabase(self.server_of(self.berlin).url())
        raise_epoch(
            SiteFile(self.berlin.data),
            database,
            open_object_store(f"file://{self.berlin.data / 'objects'}"),
            name="berlin",
            url=self.berlin.url,
            clock=SYSTEM,
        )
        database.close()


@contextmanager
def two_sites(
    directory: Path,
    *,
    primary: Mapping[str, str] | None = None,
    replica: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Sites]:
    """`primary` and `replica`: variables of their environments."""
    managed.require_postgresql()
    authority = SiteAuthority(directory / "tls")
    with Node(directory / "paris", options=[*_MANAGED, *options], environment=primary) as paris:
        berlin = ReplicaNode(directory / "berlin", options=[*_MANAGED, *options], environment=replica)
        _open_for(paris, authority)
        _follow(paris, berlin, authority)
        with berlin:
            yield Sites(paris, berlin, authority)


def _open_for(paris: Node, authority: SiteAuthority) -> None:
    server = server_of(paris.data)
    listen = Listen(host="127.0.0.1", port=free_port())
    Primary(server).open_for_replicas(listen, authority.credentials("paris"))
    Primary(server).create_slot("berlin")
    database = PostgresqlDatabase(server.url())
    objects = open_object_store(f"file://{paris.data / 'objects'}")
    found_site(SiteFile(paris.data), database, objects, name="paris", url=paris.url, clock=SYSTEM)
    database.close()


def _follow(paris: Node, berlin: Node, authority: SiteAuthority) -> None:
    theirs, ours = server_of(paris.data), server_of(berlin.data)
    (berlin.data / "keys").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(paris.data / "keys" / "master.key", berlin.data / "keys" / "master.key")
    shutil.copytree(paris.data / "objects", berlin.data / "objects")
    assert theirs.wishes.listen is not None, "it was opened"
    upstream = Upstream(host="127.0.0.1", port=theirs.wishes.listen.port, site="berlin", name="paris")
    Standby(ours).base_backup_from(upstream, authority.credentials("berlin"))
    look = look_at(theirs.url())
    reign = look()
    look.close()
    assert reign is not None, "the primary answers"
    site = SiteFile(berlin.data)
    site.ensure()
    site.record(reign.reign.claim, is_replica=True)
