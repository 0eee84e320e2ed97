"""What every Git service does behind `repository.face`: in this process, and on another node over TLS."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mainstay.access.policy import ProtectedRef
from mainstay.access.roles import Role
from mainstay.foundation.errors import NotFound
from mainstay.git.objectnames import ZERO_OID
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode
from mainstay.git.protocol.services import Service
from mainstay.repository.face import GitFace
from mainstay.repository.push import PushContext
from mainstay.repository.streams import ClientGone
from support.databases import migrated_sqlite
from support.desk import MAIN, RULES, Desk, Heard, Said, a_commit, opened_desk
from support.raw_push import push_request
from support.rpc import Cluster, Loop, loop_for

DEADLINE_S = 60
NOBODY = 1 << 40
CONTEXT = PushContext(address="192.0.2.7", transport="http", request_id="r")


@dataclass
class Caller:
    """A desk whose service is the one under test."""

    desk: Desk
    face: GitFace
    loop: Loop

    def push(self, *chunks: bytes, **options: object) -> bytes:
        return self.desk.push(*chunks, run=self.loop.run, **options)  # type: ignore[arg-type]

    def fetch(self, *chunks: bytes, **options: object) -> bytes:
        return self.desk.fetch(*chunks, run=self.loop.run, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["in this process", "on another node"])
def caller(
    request: pytest.FixtureRequest, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Caller]:
    """One repository for all tests of a transport. One kind of database: what they do is tested elsewhere."""
    directory = tmp_path_factory.mktemp("face")
    with ExitStack() as stack:
        database = stack.enter_context(closing(migrated_sqlite(sqlite_template, ":memory:")))
        desk = stack.enter_context(opened_desk(database, directory))
        if request.param == "in this process":
            yield Caller(desk, desk.service, stack.enter_context(loop_for()))
            return
        cluster = stack.enter_context(Cluster(directory))
        cluster.start(desk.service)
        face = cluster.client(desk.ledger)
        loop = stack.enter_context(loop_for(face))
        yield Caller(replace(desk, service=face), face, loop)


def clone_request(tip: str) -> bytes:
    asked = [b"command=fetch\n", b"object-format=sha1\n"]
    lines = [f"want {tip}\n".encode(), b"ofs-delta\n", b"done\n"]
    return b"".join(map(encode, asked)) + DELIM + b"".join(map(encode, lines)) + FLUSH


LS_REFS = encode(b"command=ls-refs\n") + DELIM + encode(b"peel\n") + encode(b"symrefs\n") + FLUSH


def test_a_clone_by_version_2(caller: Caller) -> None:
    listed = caller.fetch(LS_REFS)
    assert f"{caller.desk.tip} {MAIN}".encode() in listed
    answer = caller.fetch(clone_request(caller.desk.tip))
    assert b"packfile\n" in answer
    assert answer.endswith(FLUSH)
    assert len(answer) > 4 << 20


def test_a_session_by_version_2_asks_several_times(caller: Caller) -> None:
    answer = caller.fetch(LS_REFS, clone_request(caller.desk.tip), LS_REFS, stateless=False)
    assert answer.startswith(encode(b"version 2\n"))
    assert answer.count(f"{caller.desk.tip} {MAIN}".encode()) == 2
    assert b"packfile\n" in answer


def test_a_clone_by_version_0(caller: Caller) -> None:
    wants = encode(f"want {caller.desk.tip} side-band-64k ofs-delta\n".encode()) + FLUSH
    answer = caller.fetch(wants, encode(b"done\n"), version=0)
    assert answer.startswith(encode(b"NAK\n"))
    assert len(answer) > 4 << 20


def test_a_session_by_version_0_speaks_before_the_client_has_ended(caller: Caller) -> None:
    """Full duplex: the client asks for what it has just heard of."""

    class Asking:
        def __init__(self) -> None:
            self.heard = b""
            self.advertised = asyncio.Event()
            self.steps = 0

        async def write(self, chunk: bytes) -> None:
            self.heard += chunk
            if MAIN.encode() in self.heard:
                self.advertised.set()

        async def read(self) -> bytes:
            self.steps += 1
            if self.steps == 1:
                await self.advertised.wait()
                return encode(f"want {self.heard[4:44].decode()} side-band-64k\n".encode()) + FLUSH
            return encode(b"done\n") if self.steps == 2 else b""

    async def session() -> Asking:
        client = Asking()
        async with asyncio.timeout(DEADLINE_S):
            await caller.face.upload_pack(
                caller.desk.id, version=0, stateless=False, source=client, sink=client
            )
        return client

    client = caller.loop.run(session())
    assert encode(b"NAK\n") in client.heard
    assert len(client.heard) > 4 << 20


@pytest.mark.parametrize("stateless", [True, False])
def test_a_push_is_true_when_it_says_so(caller: Caller, stateless: bool) -> None:
    branch = f"refs/heads/more-{stateless}"
    made = a_commit(branch.encode())
    request = push_request([(branch, ZERO_OID, made[-1].oid)], made)
    said = caller.push(request[:50], request[50:], stateless=stateless)
    assert b"unpack ok" in said
    assert f"ok {branch}".encode() in said
    refs = {bytes(ref.name): ref.oid for ref in caller.desk.ledger.refs(caller.desk.id)[1]}
    assert refs[branch.encode()] == made[-1].oid
    assert caller.face.look(caller.desk.id).tips >= {made[-1].oid}
    assert f"{made[-1].oid} {branch}".encode() in caller.fetch(LS_REFS)


def test_a_large_push_arrives_whole(caller: Caller) -> None:
    import random

    made = a_commit(random.Random(3).randbytes(9 << 20))
    request = push_request([("refs/heads/large", ZERO_OID, made[-1].oid)], made)
    pieces = [request[at : at + (3 << 19)] for at in range(0, len(request), 3 << 19)]
    assert b"ok refs/heads/large" in caller.push(*pieces)


def test_the_rules_of_the_door_hold_wherever_the_push_is_judged(caller: Caller) -> None:
    rules = replace(RULES, role=Role.DEVELOPER, branches=[ProtectedRef("kept*", Role.MAINTAINER)])
    request = push_request([("refs/heads/kept", ZERO_OID, caller.desk.tip)], [])
    said = caller.push(request, rules=rules)
    assert b"ng refs/heads/kept you are not allowed to push to this protected branch" in said
    assert b"ok refs/heads/kept" in caller.push(request)


def test_what_nobody_has_is_said_in_the_protocol(caller: Caller) -> None:
    answer = caller.fetch(clone_request("1" * 40))
    assert b"not our ref" in answer
    assert b"ERR " in answer
    assert b"ERR " in caller.fetch(encode(b"command=nonsense\n") + FLUSH)


def test_a_repository_that_is_not_there_is_not_found(caller: Caller) -> None:
    for work in (
        caller.face.upload_pack(
            NOBODY, version=2, stateless=True, source=Said(clone_request("1" * 40)), sink=Heard()
        ),
        caller.face.upload_pack(NOBODY, version=0, stateless=False, source=Said(), sink=Heard()),
        caller.face.advertise(NOBODY, Service.UPLOAD_PACK, version=0, sink=Heard()),
    ):
        with pytest.raises(NotFound):
            caller.loop.run(work)


def test_the_advertisements(caller: Caller) -> None:
    def advertised(service: Service, version: int) -> bytes:
        heard = Heard()
        caller.loop.run(caller.face.advertise(caller.desk.id, service, version=version, sink=heard))
        return heard.heard

    assert advertised(Service.UPLOAD_PACK, 2).startswith(encode(b"version 2\n"))
    assert f"{caller.desk.tip} {MAIN}".encode() in advertised(Service.UPLOAD_PACK, 0)
    assert b"report-status" in advertised(Service.RECEIVE_PACK, 0)


def test_a_client_that_leaves_its_clone_is_gone(caller: Caller) -> None:
    async def clone() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await caller.face.upload_pack(
                caller.desk.id,
                version=2,
                stateless=True,
                source=Said(clone_request(caller.desk.tip)),
                sink=Heard(patience=1000),
            )

    with pytest.raises(ClientGone):
        caller.loop.run(clone())
    assert b"packfile\n" in caller.fetch(clone_request(caller.desk.tip))


def test_a_pusher_that_leaves_changes_nothing(caller: Caller) -> None:
    made = a_commit(b"left behind")
    request = push_request([("refs/heads/left", ZERO_OID, made[-1].oid)], made)
    before = caller.desk.ledger.repository(caller.desk.id).version

    async def push() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await caller.face.receive_pack(
                caller.desk.id,
                stateless=True,
                source=Said(request[:-30], then_gone=True),
                sink=Heard(),
                rules=RULES,
                context=CONTEXT,
            )

    with pytest.raises(ClientGone):
        caller.loop.run(push())
    assert caller.desk.ledger.repository(caller.desk.id).version == before
