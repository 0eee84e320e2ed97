"""Ends of conversations: clients that go away or fall silent, and what a push hears. With real git."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.git.objectnames import ZERO_OID
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode
from mainstay.repository.streams import ClientGone
from mainstay.storage.database import Database
from support.desk import Desk, Heard, Said, opened_desk
from support.raw_push import push_request

DEADLINE_S = 20


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[Desk]:
    with opened_desk(database, tmp_path) as desk:
        yield desk


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
