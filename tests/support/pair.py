"""Two whole nodes on one PostgreSQL and one S3 store, each of which reaches them by cables of its own.

with pair_of_nodes(postgres_server, moto, tmp_path) as pair:
    pair.a.database.cut()      # node a alone has lost the database
    pair.a.objects.stall()     # and its object store is frozen
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from support.node import Node
from support.postgres import PostgresServer
from support.s3 import S3Server
from support.servers import wait_until
from support.tcp_proxy import TcpProxy


@dataclass
class Wired:
    """A node and what its cables are."""

    node: Node
    database: TcpProxy
    objects: TcpProxy

    def readiness(self) -> int:
        return self.node.get("/-/readiness")[0]

    def is_well(self) -> bool:
        """In rotation, and what it last saw of its dependencies is good: nothing old is served any more."""
        seen = [self.node.get(f"/-/dependencies?of={each}") for each in ("database", "objects")]
        return self.readiness() == 200 and all(json.loads(body)["well"] for _, body in seen)

    def heal(self) -> None:
        self.database.heal()
        self.objects.heal()


@dataclass
class Pair:
    a: Wired
    b: Wired

    def heal(self) -> None:
        """Everything as it was, and both nodes back in rotation."""
        for each in (self.a, self.b):
            each.heal()
        for each in (self.a, self.b):
            wait_until(lambda each=each: each.is_well(), timeout_s=60, what="both nodes well again")


@contextmanager
def pair_of_nodes(
    postgres: PostgresServer, store: S3Server, base: Path, environment: Mapping[str, str]
) -> Iterator[Pair]:
    """Named `a` and `b`."""
    name = postgres.create_database()
    prefix = f"pair-{name}"
    with ExitStack() as stack:
        stack.callback(postgres.drop_database, name)
        wired = {}
        for each in ("a", "b"):
            database = stack.enter_context(TcpProxy("127.0.0.1", postgres.port))
            objects = stack.enter_context(TcpProxy("127.0.0.1", int(store.endpoint.rpartition(":")[2])))
            reached = replace(store, endpoint=f"http://{objects.address}")
            settings = {
                "MAINSTAY_DATABASE_URL": f"postgresql://mainstay@{database.address}/{name}",
                "MAINSTAY_OBJECT_STORE": reached.url(prefix),
                "MAINSTAY_NODE_NAME": each,
                "MAINSTAY_DATA_PROCESSES": "1",
                **store.environment,
                **environment,
            }
            wired[each] = Wired(Node(base / each, environment=settings, ready_s_max=120), database, objects)
        if wired["a"].node.data.exists():
            raise FileExistsError(wired["a"].node.data)
        stack.enter_context(wired["a"].node)
        shutil.copytree(wired["a"].node.data / "keys", wired["b"].node.data / "keys")
        shutil.copy(wired["a"].node.data / "initial_root_password", wired["b"].node.data)
        stack.enter_context(wired["b"].node)
        yield Pair(wired["a"], wired["b"])


def seconds_until(question: Callable[[], bool], *, within_s: float, what: str) -> float:
    """How long it took until `question` was true."""
    began_s = time.monotonic()
    wait_until(question, timeout_s=within_s, what=what)
    return time.monotonic() - began_s
