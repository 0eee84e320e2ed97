"""Git nodes for tests: the real door and server over real TLS on loopback, in a thread of this process.

with Cluster(tmp_path) as cluster:
    node = cluster.start(service)          # serves `service` to others
    face = cluster.client(ledger)          # what an app node uses
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from mainstay.boot.http_protocol import server_options
from mainstay.cluster.identity import NodeIdentity, ensure_certificate
from mainstay.cluster.placement import GitNode
from mainstay.cluster.rpc_tokens import TokenPair
from mainstay.doors.nodes.app import NodeDoor
from mainstay.doors.nodes.content import ContentForNodes
from mainstay.doors.nodes.settings import NodesSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import Secret
from mainstay.repository.face import ContentFace, GitFace
from mainstay.repository.remote.asking import Asking
from mainstay.repository.remote.content import RemoteContent
from mainstay.repository.remote.kept import Kept
from mainstay.repository.remote.roster import Roster
from mainstay.repository.remote.service import RemoteGitService
from mainstay.repository.remote.wire import Patience
from mainstay.storage.ledger import Ledger

HASTY = Patience(connect_s_max=5.0, begin_s_max=10.0, alive_s=0.2)


class OwnSecrets:
    """A place for secrets of one test: what `cluster.secrets.Secrets` is for a cluster."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def ensure(self, name: str, make: Callable[[], str]) -> str:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def created_ms(self, name: str) -> int | None:
        return 1 if name in self._kept else None


class RunningNode:
    """One git node: a door in a server in a thread."""

    def __init__(self, door: NodeDoor, context: ssl.SSLContext, node_id: str) -> None:
        self.door = door
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.node = GitNode(id=node_id, host="127.0.0.1", port=self._listener.getsockname()[1])
        config = uvicorn.Config(
            door,
            ssl_context_factory=lambda _config, _default: context,
            timeout_graceful_shutdown=1,
            **server_options(),
        )
        self._server = _QuietServer(config)
        self._thread = threading.Thread(target=self._run, name=f"node-{node_id}", daemon=True)
        self._thread.start()
        assert self._server.up.wait(20), "the node did not start"

    def stop(self) -> None:
        """Cut everything, as the end of a process does."""
        if not self._thread.is_alive():
            return
        self.cut_connections()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the node did not end"
        self._listener.close()

    def cut_connections(self) -> None:
        """Break every connection off, as a network does."""
        loop = self._server.loop
        assert loop is not None
        for each in list(self._server.server_state.connections):
            loop.call_soon_threadsafe(each.transport.abort)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._server.serve(sockets=[self._listener]))


class _QuietServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Cluster:
    """A CA, tokens, and the git nodes that run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._secrets = OwnSecrets()
        self._stack = ExitStack()
        self.tokens = TokenPair(Secret("token-1"), None)
        self.to_send = Secret("token-1")
        self.nodes: list[GitNode] = []
        self.draining: set[str] = set()
        self.labels: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def identity(self, node_id: str) -> NodeIdentity:
        data = self._directory / node_id
        data.mkdir(parents=True, exist_ok=True)
        made = NodeIdentity(node_id, data)
        ensure_certificate(made, self._secrets, ["127.0.0.1"], now_ms=SYSTEM.now_ms())  # type: ignore[arg-type]
        return made

    def start(
        self,
        service: GitFace | Any,
        *,
        content: ContentFace | Any = None,
        settings: NodesSettings | None = None,
        context: ssl.SSLContext | None = None,
        listed: bool = True,
    ) -> RunningNode:
        """Start a node that serves `service`, and put it on the list."""
        node_id = new_ulid()
        scratch = self._directory / node_id / "scratch"
        scratch.mkdir(parents=True)
        for_nodes = ContentForNodes(content, scratch=scratch)
        self._stack.callback(for_nodes.close)
        door = NodeDoor(
            service=service,
            content=for_nodes,
            tokens=Kept(lambda: self.tokens, fresh_s=0.05, clock=SYSTEM),
            settings=settings or NodesSettings(alive_s=0.2),
            clock=SYSTEM,
            is_draining=lambda: node_id in self.draining,
        )
        running = RunningNode(door, context or self.identity(node_id).server_context(), node_id)
        self._stack.callback(running.stop)
        if listed:
            self.nodes.append(running.node)
        return running

    def client(
        self, ledger: Ledger, *, patience: Patience = HASTY, context: ssl.SSLContext | None = None
    ) -> RemoteGitService:
        """An app node's Git service. Finish it in the loop that used it."""
        asking = self.asking(patience=patience, context=context)
        service = RemoteGitService(ledger=ledger, asking=asking, refs_in_memory_max=100_000)
        self._stack.callback(service.close)
        return service

    def content(self, ledger: Ledger, *, patience: Patience = HASTY) -> RemoteContent:
        """What an app node's pages and API use. It has a loop of its own."""
        made = RemoteContent(ledger=ledger, asking=self.asking(patience=patience))
        self._stack.callback(made.close)
        return made

    def asking(self, *, patience: Patience = HASTY, context: ssl.SSLContext | None = None) -> Asking:
        return Asking(
            roster=Roster(
                nodes=lambda: list(self.nodes),
                label_of=lambda number: self.labels.get(number, ""),
                clock=SYSTEM,
            ),
            context=context or self.identity(new_ulid()).client_context(),
            token=Kept(lambda: self.to_send, fresh_s=0.05, clock=SYSTEM),
            clock=SYSTEM,
            patience=patience,
        )


@dataclass
class Loop:
    """A loop for the calls of one test, and the services to finish in it."""

    runner: asyncio.Runner
    services: list[RemoteGitService]

    def run(self, work: Any) -> Any:
        return self.runner.run(work)


@contextmanager
def loop_for(*services: RemoteGitService) -> Iterator[Loop]:
    with asyncio.Runner() as runner:
        try:
            yield Loop(runner, list(services))
        finally:
            for each in services:
                runner.run(each.finish())
            runner.run(_until_closed(runner.get_loop()))


async def _until_closed(loop: asyncio.AbstractEventLoop) -> None:
    """Until the last connection has said goodbye; what is left then is a leak, and its warning an error."""
    async with asyncio.timeout(10):
        while len(loop._selector.get_map()) > 1:  # type: ignore[attr-defined]  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)


def elsewhere(node: GitNode, port: int) -> GitNode:
    """The same node, said to be at another port."""
    return replace(node, port=port)


def in_order(nodes: Sequence[GitNode], ids: Sequence[str]) -> list[GitNode]:
    return [next(node for node in nodes if node.id == each) for each in ids]
