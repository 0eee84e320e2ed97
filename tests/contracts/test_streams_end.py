"""Ends of conversations: clients that go away or fall silent, and what a push hears. With real git."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import PushRules
from mainstay.access.roles import Role
from mainstay.cache.settings import CacheSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import ZERO_OID, RefName
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode
from mainstay.repository.push import PushContext
from mainstay.repository.service import GitService
from mainstay.repository.settings import RepositorySettings
from mainstay.repository.streams import ClientGone
from mainstay.storage.database import Database
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects.memory import MemoryStore
from support.raw_push import RawObject, blob, commit, push_request, tree

DEADLINE_S = 20
CONTEXT = PushContext(address="192.0.2.7", transport="http", request_id="r")
RULES = PushRules(actor=Actor(kind=Kind.USER, id=7, name="ada"), role=Role.MAINTAINER)
MAIN = "refs/heads/main"


class Said:
    """A client that says these chunks and then ends, or is gone."""

    def __init__(self, *chunks: bytes, then_gone: bool = False) -> None:
        self._chunks = list(chunks)
        self._then_gone = then_gone

    async def read(self) -> bytes:
        if self._chunks:
            return self._chunks.pop(0)
        if self._then_gone:
            raise ClientGone
        return b""


class Heard:
    """What a client heard before it went away: at the first piece larger than `patience`."""

    def __init__(self, patience: int = 1 << 30) -> None:
        self.heard = b""
        self._patience = patience

    async def write(self, chunk: bytes) -> None:
        if len(chunk) > self._patience:
            raise ClientGone
        self.heard += chunk


@dataclass
class Desk:
    """One repository with a commit of 4 MiB that do not compress."""

    service: GitService
    ledger: SqlLedger
    id: int
    tip: str

    def push(self, body: bytes) -> bytes:
        heard = Heard()
        asyncio.run(
            self.service.receive_pack(
                self.id, stateless=True, source=Said(body), sink=heard, rules=RULES, context=CONTEXT
            )
        )
        return heard.heard


def a_commit(content: bytes) -> list[RawObject]:
    file = blob(content)
    top = tree({"data": file})
    return [file, top, commit(top, None, "Data.")]


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[Desk]:
    ledger, objects = SqlLedger(database, SYSTEM), MemoryStore(clock=SYSTEM)
    repository = ledger.create_repository(
        uid=new_ulid(), head=RefName(MAIN.encode()), identity={}, actor="user:7"
    )
    service = GitService(
        ledger=ledger,
        objects=objects,
        clock=SYSTEM,
        cache=CacheSettings(directory=tmp_path / "cache"),
        settings=RepositorySettings(quarantine=tmp_path / "quarantine"),
    )
    made = a_commit(random.Random(7).randbytes(4 << 20))
    desk = Desk(service, ledger, repository.id, made[-1].oid)
    assert b"ok " + MAIN.encode() in desk.push(push_request([(MAIN, ZERO_OID, desk.tip)], made))
    yield desk
    service.close()


def test_a_clone_whose_client_leaves_ends_as_that(desk: Desk) -> None:
    request = (
        encode(b"command=fetch\n") + DELIM + encode(f"want {desk.tip}\n".encode()) + encode(b"done\n") + FLUSH
    )

    async def clone() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await desk.service.upload_pack(
                desk.id, version=2, stateless=True, source=Said(request), sink=Heard(patience=1000)
            )

    before = open_files()
    for _ in range(3):  # the third comes from the kept answers
        with pytest.raises(ClientGone):
            asyncio.run(clone())
    assert open_files() <= before + 3, "nothing stays pinned, no pipe stays open"


def test_many_commands_are_judged_like_few(desk: Desk) -> None:
    """More than are judged on the spot; the last one is refused."""
    names = [f"refs/heads/b{number:03}" for number in range(300)] + ["refs/heads/b000/inside"]
    said = desk.push(push_request([(name, ZERO_OID, desk.tip) for name in names], []))
    assert said.count(b"ok refs/heads/") == 300
    assert b"ng refs/heads/b000/inside 'refs/heads/b000' exists" in said
    assert len(desk.ledger.refs(desk.id)[1]) == 301


def test_a_disk_that_takes_no_push_is_said_per_ref(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "quarantine").rename(tmp_path / "gone")
    (tmp_path / "quarantine").write_bytes(b"in the way")
    version = desk.ledger.repository(desk.id).version
    said = desk.push(push_request([("refs/heads/new", ZERO_OID, desk.tip)], []))
    assert b"ng refs/heads/new no push can be taken now" in said
    assert b"nothing changed" in said
    assert desk.ledger.repository(desk.id).version == version


def test_a_silent_client_over_ssh_ends_its_git(desk: Desk) -> None:
    wants = encode(f"want {desk.tip} multi_ack_detailed side-band-64k\n".encode()) + FLUSH

    async def fetch() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await desk.service.upload_pack(
                desk.id, version=0, stateless=False, source=Said(wants, then_gone=True), sink=Heard()
            )

    with pytest.raises(ClientGone):
        asyncio.run(fetch())


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
