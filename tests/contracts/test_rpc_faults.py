"""Between two nodes: who is let in, what is retried, and what a broken stream means. Real TLS on loopback."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mainstay.access.policy import PushRules
from mainstay.cluster.rpc_tokens import TokenPair
from mainstay.doors.nodes.settings import NodesSettings
from mainstay.foundation.errors import Conflict, OutcomeUnknown, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import Secret
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode
from mainstay.repository.push import PushContext
from mainstay.repository.remote import frames
from mainstay.repository.remote.calls import UploadPack
from mainstay.repository.remote.frames import Kind, frame
from mainstay.repository.remote.service import RemoteGitService
from mainstay.repository.remote.wire import Naming
from mainstay.repository.streams import ByteSink, ByteSource, ClientGone
from support.desk import RULES, Heard, Said
from support.rpc import HASTY, Cluster, RunningNode, loop_for

DEADLINE_S = 30
FETCH = encode(b"command=fetch\n") + DELIM + encode(b"want " + b"1" * 40) + encode(b"done\n") + FLUSH
CONTEXT = PushContext(address="192.0.2.7", transport="http", request_id="r-17")

Deed = Callable[[ByteSource, ByteSink], Awaitable[None]]


@dataclass
class Noting:
    """A Git service that does what the test says, and counts."""

    deed: Deed
    calls: int = 0
    ended: int = 0
    contexts: list[PushContext] = field(default_factory=list)

    async def upload_pack(
        self, repository_id: int, *, version: int, stateless: bool, source: ByteSource, sink: ByteSink
    ) -> None:
        await self._do(source, sink)

    async def receive_pack(
        self,
        repository_id: int,
        *,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        rules: PushRules,
        context: PushContext,
    ) -> None:
        self.contexts.append(context)
        await self._do(source, sink)

    async def _do(self, source: ByteSource, sink: ByteSink) -> None:
        self.calls += 1
        try:
            await self.deed(source, sink)
        finally:
            self.ended += 1


async def echo(source: ByteSource, sink: ByteSink) -> None:
    while piece := await source.read():
        await sink.write(piece)


async def say_pack(source: ByteSource, sink: ByteSink) -> None:
    await sink.write(b"pack")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as cluster:
        yield cluster


@contextmanager
def app_node(cluster: Cluster, **options: Any) -> Iterator["AppNode"]:
    face = cluster.client(ledger=None, **options)  # type: ignore[arg-type]  # nothing here is answered from it
    with loop_for(face) as loop:
        yield AppNode(face, loop.run)


@dataclass
class AppNode:
    face: RemoteGitService
    run: Callable[[Any], Any]

    def fetch(self, sink: Any = None, *, repository: int = 7) -> bytes:
        heard = sink or Heard()
        self.run(_within(self._fetch(heard, repository)))
        return bytes(heard.heard)

    async def _fetch(self, sink: Any, repository: int) -> None:
        await self.face.upload_pack(repository, version=2, stateless=True, source=Said(FETCH), sink=sink)

    def push(self, source: Any, sink: Any = None) -> bytes:
        heard = sink or Heard()
        self.run(
            _within(
                self.face.receive_pack(
                    7, stateless=True, source=source, sink=heard, rules=RULES, context=CONTEXT
                )
            )
        )
        return bytes(heard.heard)


async def _within(work: Awaitable[None]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await work


# Who is let in


def test_a_stranger_learns_nothing(cluster: Cluster) -> None:
    running = cluster.start(Noting(say_pack))
    cluster.to_send = Secret("token-0")
    with app_node(cluster) as app, pytest.raises(Unavailable, match="do not trust"):
        app.fetch()
    for path in ("/rpc", "/rpc/v1/upload-pack", "/rpc/v9/x", "/", "/-/health"):
        for headers in ((), ("Authorization: Basic dG9rZW4tMQ==",)):
            assert _raw(running, cluster, "POST", path, headers) == (401, b""), path
    for wrong in ("wrong", "token-1x", "token-"):
        headers = (f"Authorization: Bearer {wrong}",)
        assert _raw(running, cluster, "POST", "/rpc/v1/upload-pack", headers) == (401, b"")
    assert running.door._service.calls == 0


def test_both_tokens_are_good_while_one_replaces_the_other(cluster: Cluster) -> None:
    cluster.start(Noting(say_pack))
    with app_node(cluster) as app:
        for number in range(2, 6):
            assert app.fetch() == b"pack"
            cluster.tokens = TokenPair(Secret(f"token-{number}"), cluster.tokens.current)
            assert app.fetch() == b"pack", "the token before"
            cluster.to_send = Secret(f"token-{number}")
            assert app.fetch() == b"pack"


def test_a_token_that_is_too_old_is_replaced_and_the_call_made_again(cluster: Cluster) -> None:
    service = Noting(say_pack)
    cluster.start(service)
    cluster.tokens = TokenPair(Secret("token-9"), Secret("token-8"))
    sent = iter([Secret("token-1"), Secret("token-9")])
    with app_node(cluster) as app:
        app.face._asking._token._ask = lambda: next(sent)
        app.face._asking._token._fresh_s = 1000
        assert app.fetch() == b"pack"
    assert service.calls == 1


def test_another_authority_is_not_believed(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with Cluster(tmp_path / "other") as other:
        foreign = other.identity(new_ulid())
        cluster.start(Noting(say_pack), context=foreign.server_context())
        with app_node(cluster) as app, pytest.raises(Unavailable, match="went away"):
            app.fetch()
        with app_node(cluster, context=foreign.client_context()) as app:
            cluster.nodes.clear()
            cluster.start(Noting(say_pack))
            with pytest.raises(Unavailable):
                app.fetch()


def test_another_node_at_the_address_is_not_believed(cluster: Cluster) -> None:
    """The certificate is of our authority and for this address, but not of the node that was meant."""
    meant, other = Noting(say_pack), Noting(say_pack)
    first, second = cluster.start(meant), cluster.start(other, listed=False)
    cluster.nodes[:] = [replace(first.node, port=second.node.port)]
    with app_node(cluster) as app, pytest.raises(Unavailable, match="went away"):
        app.fetch()
    assert (meant.calls, other.calls) == (0, 0)


def test_plain_http_is_not_spoken(cluster: Cluster) -> None:
    running = cluster.start(Noting(say_pack))
    with socket.create_connection(("127.0.0.1", running.node.port), timeout=DEADLINE_S) as line:
        line.sendall(b"GET /rpc HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-1\r\n\r\n")
        heard = b""
        try:
            while piece := line.recv(4096):
                heard += piece
        except ConnectionResetError:
            pass
    assert b"HTTP" not in heard


# Versions


def test_versions_are_told_and_an_unknown_one_is_refused_before_anything_is_read(cluster: Cluster) -> None:
    service = Noting(say_pack)
    running = cluster.start(service)
    good = ("Authorization: Bearer token-1",)
    status, answer = _raw(running, cluster, "GET", "/rpc", good)
    assert status == 200
    calls = ["browse", "receive-pack", "upload-pack", "write"]
    assert json.loads(answer) == {"versions": [1], "calls": calls}
    for path in ("/rpc/v2/upload-pack", "/rpc/v1/merge", "/rpc/v1/upload-pack/x", "/other"):
        status, answer = _raw(running, cluster, "POST", path, good)
        assert status == 404, path
        assert json.loads(answer)["family"] == "invalid"
    assert service.calls == 0


def test_a_node_that_does_not_know_the_call_is_passed_over(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.start(Noting(say_pack))
    with app_node(cluster) as app:
        another = Naming(address=lambda name: f"/rpc/v2/{name}")
        monkeypatch.setattr("mainstay.repository.remote.wire.NODES", another)
        with pytest.raises(Unavailable, match="understands"):
            app.fetch()


@pytest.mark.parametrize(
    "body",
    [
        frame(Kind.PARAMETERS, b'{"repository_id": 1, "repository_id": 2}'),
        frame(Kind.PARAMETERS, b"{}"),
        frame(Kind.DATA, b"x"),
        frames.END,
        b"\xff" * 5,
        frame(Kind.PARAMETERS, UploadPack(repository_id=7, version=2, stateless=True).encode())[:-3],
    ],
)
def test_parameters_are_read_strictly(cluster: Cluster, body: bytes) -> None:
    service = Noting(say_pack)
    running = cluster.start(service)
    status, answer = _raw(
        running, cluster, "POST", "/rpc/v1/upload-pack", ("Authorization: Bearer token-1",), body
    )
    assert status == 400
    assert json.loads(answer)["family"] == "invalid"
    assert service.calls == 0


# Errors and retries


def test_the_families_come_back_with_their_sentences(cluster: Cluster) -> None:
    async def conflict(source: ByteSource, sink: ByteSink) -> None:
        raise Conflict("the refs moved under 'main'")

    async def nobody_knows(source: ByteSource, sink: ByteSink) -> None:
        raise OutcomeUnknown("push P")

    service = Noting(conflict)
    cluster.start(service)
    with app_node(cluster) as app:
        with pytest.raises(Conflict, match="moved under 'main'"):
            app.push(Said(b"x"))
        service.deed = nobody_knows
        with pytest.raises(OutcomeUnknown, match="push P"):
            app.push(Said(b"x"))


def test_a_node_that_is_down_is_passed_over_and_then_avoided(cluster: Cluster) -> None:
    service = Noting(say_pack)
    first, second = cluster.start(service), cluster.start(service)
    with app_node(cluster) as app:
        first.stop()
        for repository in range(1, 9):
            assert app.fetch(repository=repository) == b"pack"
        assert set(app.face._asking._roster._avoided()) == {first.node.id}
        assert app.push(Said(b"x")) == b"pack", "a push that nobody has begun may go elsewhere"
        second.stop()
        with pytest.raises(Unavailable, match="went away"):
            app.fetch()
    assert service.calls == 9


def test_a_node_that_is_silent_before_its_first_byte_is_passed_over(cluster: Cluster) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    service = Noting(say_pack)
    running = cluster.start(service)
    ghost = replace(running.node, id=new_ulid(), port=silent.getsockname()[1])
    cluster.nodes.insert(0, ghost)
    cluster.labels[7] = "first"
    cluster.nodes[0] = replace(ghost, labels=frozenset({"first"}))
    try:
        with app_node(cluster, patience=replace(HASTY, connect_s_max=0.5, begin_s_max=0.5)) as app:
            assert app.push(Said(b"x")) == b"pack"
    finally:
        silent.close()
    assert service.calls == 1


def test_a_node_that_is_full_or_drains_says_so_and_another_is_asked(cluster: Cluster) -> None:
    full, other = Noting(say_pack), Noting(say_pack)
    first = cluster.start(full, settings=NodesSettings(requests_max=0, waiting_s_max=0.05))
    with app_node(cluster) as app:
        with pytest.raises(Unavailable, match="too busy") as told:
            app.push(Said(b"x"))
        assert told.value.retry_after_s == 5
        second = cluster.start(other)
        app.run(app.face._asking._roster._nodes.renewed())
        assert app.push(Said(b"x")) == b"pack"
        cluster.draining |= {first.node.id, second.node.id}
        with pytest.raises(Unavailable):
            app.push(Said(b"x"))
        cluster.draining.clear()
        assert app.fetch() == b"pack"
    assert (full.calls, other.calls) == (0, 2)


def test_a_fetch_is_asked_again_until_its_answer_began(cluster: Cluster) -> None:
    """Cut before the first byte of data: another node. After it: the reader must see the cut."""

    async def cut_at_once(source: ByteSource, sink: ByteSink) -> None:
        while await source.read():
            pass
        first.cut_connections()
        await asyncio.sleep(DEADLINE_S)

    async def cut_later(source: ByteSource, sink: ByteSink) -> None:
        await sink.write(b"half a pack")
        await cut_at_once(source, sink)

    cutting = Noting(cut_at_once)
    first = cluster.start(cutting)
    cluster.nodes[0] = replace(first.node, labels=frozenset({"first"}))
    cluster.labels[7] = "first"
    cluster.start(Noting(say_pack))
    with app_node(cluster) as app:
        assert app.fetch() == b"pack"
    cutting.deed = cut_later
    with app_node(cluster) as app:
        heard = Heard()
        with pytest.raises(ClientGone, match="went away"):
            app.fetch(heard)
        assert heard.heard == b"half a pack"


@pytest.mark.parametrize("answered", [b"", b"unpack ok\n"])
def test_a_push_that_breaks_off_is_unknown_and_not_repeated(cluster: Cluster, answered: bytes) -> None:
    async def cut(source: ByteSource, sink: ByteSink) -> None:
        await source.read()
        if answered:
            await sink.write(answered)
        cluster_nodes[0].cut_connections()
        await asyncio.sleep(DEADLINE_S)

    service = Noting(cut)
    cluster_nodes = [cluster.start(service)]
    other = Noting(say_pack)
    cluster.nodes[0] = replace(cluster.nodes[0], labels=frozenset({"first"}))
    cluster.labels[7] = "first"
    cluster.start(other)
    with app_node(cluster) as app, pytest.raises(OutcomeUnknown, match="went away in the middle"):
        app.push(Said(b"commands", b"pack"))
    assert (service.calls, other.calls) == (1, 0)


def test_an_answer_without_its_end_is_cut_however_politely_http_ends(cluster: Cluster) -> None:
    """The HTTP body is complete; the end marker is missing."""

    class Polite:
        calls = 0

    running = cluster.start(Polite())

    async def door(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = frame(Kind.BEGUN) + frame(Kind.DATA, b"unpack ok\n")
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await receive()
        await send({"type": "http.response.body", "body": b""})

    running._server.config.loaded_app = door
    with app_node(cluster) as app, pytest.raises(OutcomeUnknown):
        app.push(Said(b"x"))


@pytest.mark.parametrize("begins_with", [frame(Kind.BEGUN), b""])
def test_what_is_no_frame_is_no_answer(cluster: Cluster, begins_with: bytes) -> None:
    """A push is not called good, and a fetch is asked of another node."""

    async def door(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": begins_with, "more_body": True})
        if begins_with:
            await receive()
        await send({"type": "http.response.body", "body": b"\xffnonsense", "more_body": True})
        await asyncio.sleep(DEADLINE_S)

    odd = cluster.start(Noting(say_pack))
    odd._server.config.loaded_app = door
    cluster.nodes[0] = replace(odd.node, labels=frozenset({"odd"}))
    cluster.labels[7] = "odd"
    cluster.start(Noting(say_pack))
    with app_node(cluster) as app:
        assert app.fetch() == b"pack"
    with app_node(cluster) as app:
        if begins_with:
            with pytest.raises(OutcomeUnknown):
                app.push(Said(b"x"))
        else:
            assert app.push(Said(b"x")) == b"pack"


def test_a_bug_over_there_is_said_without_its_details(cluster: Cluster) -> None:
    async def trip(source: ByteSource, sink: ByteSink) -> None:
        raise ZeroDivisionError("secret")

    service = Noting(trip)
    cluster.start(service)
    with app_node(cluster) as app:
        with pytest.raises(Unavailable, match="something went wrong on the node") as told:
            app.fetch()
        assert "secret" not in str(told.value)


def test_a_node_that_falls_silent_in_the_middle_is_given_up(cluster: Cluster) -> None:
    hold = threading.Event()

    async def freeze(source: ByteSource, sink: ByteSink) -> None:
        await sink.write(b"half")
        await asyncio.sleep(0.2)  # it is on its way
        hold.wait(DEADLINE_S)  # blocks the loop of the node: no sign of life

    cluster.start(Noting(freeze))
    try:
        with (
            app_node(cluster, patience=replace(HASTY, silence_s_max=0.5)) as app,
            pytest.raises(ClientGone),
        ):
            app.fetch()
    finally:
        hold.set()


def test_a_slow_node_that_says_it_lives_is_waited_for(cluster: Cluster) -> None:
    async def think(source: ByteSource, sink: ByteSink) -> None:
        await asyncio.sleep(1.2)
        await sink.write(b"at last")

    cluster.start(Noting(think), settings=NodesSettings(alive_s=0.1))
    with app_node(cluster, patience=replace(HASTY, silence_s_max=0.6)) as app:
        assert app.fetch() == b"at last"


# Streams


def test_a_caller_that_goes_ends_the_work(cluster: Cluster) -> None:
    async def endless(source: ByteSource, sink: ByteSink) -> None:
        while True:
            await sink.write(b"x" * 1000)
            await asyncio.sleep(0.01)

    async def deaf(source: ByteSource, sink: ByteSink) -> None:
        await asyncio.sleep(DEADLINE_S)

    service = Noting(endless)
    cluster.start(service)
    with app_node(cluster) as app:
        with pytest.raises(ClientGone):
            app.fetch(Heard(patience=10))
        service.deed = deaf
        with pytest.raises(ClientGone):
            app.push(Said(b"x", then_gone=True))
        app.run(_until(lambda: service.ended == 2))
    assert service.calls == 2


def test_a_service_that_has_heard_enough_need_not_be_heard_out(cluster: Cluster) -> None:
    """A push that is refused by its commands is answered before its pack is sent."""

    async def refuse(source: ByteSource, sink: ByteSink) -> None:
        await source.read()
        await sink.write(b"ng")

    class Endless:
        read_pieces = 0

        async def read(self) -> bytes:
            self.read_pieces += 1
            await asyncio.sleep(0.01)
            return b"x" * 100_000

    cluster.start(Noting(refuse))
    source = Endless()
    with app_node(cluster) as app:
        assert app.push(source) == b"ng"
        after = source.read_pieces
        app.run(asyncio.sleep(0.1))
        assert source.read_pieces == after, "nobody reads on"
        assert app.push(Said(b"x")) == b"ng"


def test_who_reads_slowly_is_not_flooded(cluster: Cluster) -> None:
    """Back-pressure in both directions: what is on its way is bounded, however much there is."""
    sent = 0

    async def flood(source: ByteSource, sink: ByteSink) -> None:
        nonlocal sent
        await source.read()
        for _ in range(400):
            await sink.write(b"x" * (1 << 18))
            sent += 1 << 18

    class Slow:
        heard = 0
        most = 0

        async def write(self, chunk: bytes) -> None:
            if self.heard < 20 << 20:
                await asyncio.sleep(0.01)
            self.heard += len(chunk)
            self.most = max(self.most, sent - self.heard)

    cluster.start(Noting(flood))
    slow = Slow()
    with app_node(cluster) as app:
        app.push(Said(b"x"), slow)
    assert slow.heard == 100 << 20
    assert slow.most < 24 << 20, "socket buffers and a few pieces"


def test_what_is_said_slowly_taken_is_not_read_ahead(cluster: Cluster) -> None:
    taken = 0

    async def sip(source: ByteSource, sink: ByteSink) -> None:
        nonlocal taken
        while piece := await source.read():
            taken += len(piece)
            if taken < 10 << 20:
                await asyncio.sleep(0.005)
        await sink.write(b"full")

    class Offered:
        offered = 0
        most = 0

        async def read(self) -> bytes:
            self.most = max(self.most, self.offered - taken)
            if self.offered >= 60 << 20:
                return b""
            self.offered += 1 << 18
            return b"y" * (1 << 18)

    cluster.start(Noting(sip))
    offered = Offered()
    with app_node(cluster) as app:
        assert app.push(offered) == b"full"
    assert taken == 60 << 20
    assert offered.most < 24 << 20


def test_the_request_id_of_the_door_reaches_the_git_node(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    from mainstay.foundation.logs import bound

    service = Noting(say_pack)
    cluster.start(service)

    async def ask(face: RemoteGitService) -> None:
        with bound(request_id="r-4711"):
            await face.upload_pack(7, version=2, stateless=True, source=Said(FETCH), sink=Heard())

    with app_node(cluster) as app:
        app.push(Said(b"x"))
        app.run(ask(app.face))
    assert service.contexts == [CONTEXT]
    lines = [each for each in capsys.readouterr().out.splitlines() if "nodes.answered" in each]
    assert "r-4711" in lines[-1]


def test_many_at_once(cluster: Cluster) -> None:
    cluster.start(Noting(echo))
    cluster.start(Noting(echo))

    async def all_of_them(face: RemoteGitService) -> list[bytes]:
        sinks = [Heard() for _ in range(40)]
        await asyncio.gather(
            *(
                face.receive_pack(
                    number,
                    stateless=True,
                    source=Said(*[b"%d," % number] * 20),
                    sink=sink,
                    rules=RULES,
                    context=CONTEXT,
                )
                for number, sink in enumerate(sinks, start=1)
            )
        )
        return [each.heard for each in sinks]

    with app_node(cluster) as app:
        assert app.run(all_of_them(app.face)) == [b"%d," % number * 20 for number in range(1, 41)]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the other side is in another thread
            await asyncio.sleep(0.01)


def _raw(  # noqa: PLR0917 - as a request is written
    running: RunningNode,
    cluster: Cluster,
    method: str,
    path: str,
    headers: tuple[str, ...] = (),
    body: bytes = b"",
) -> tuple[int, bytes]:
    """One request by hand: status and body."""
    context = cluster.identity(new_ulid()).client_context()
    name = f"{running.node.id.lower()}.node.mainstay.internal"
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    with (
        socket.create_connection(("127.0.0.1", running.node.port), timeout=DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname=name) as line,
    ):
        line.sendall("\r\n".join(lines).encode() + body)
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += line.recv(65536)
        head, _, rest = heard.partition(b"\r\n\r\n")
        length = next(
            int(each.partition(b":")[2])
            for each in head.split(b"\r\n")
            if each.lower().startswith(b"content-length")
        )
        while len(rest) < length:
            rest += line.recv(65536)
    return int(head.split()[1]), rest
