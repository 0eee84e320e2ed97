"""Git processes that are killed at any moment: refusals that say so, never a crash and never a lie."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import uvloop

from mainstay.access.policy import ProtectedRef
from mainstay.access.roles import Role
from mainstay.foundation.errors import Unavailable
from mainstay.git.objectnames import ZERO_OID
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode
from support.databases import migrated_sqlite
from support.deadly_git import MOMENTS, deadly_git
from support.desk import MAIN, RULES, Desk, Run, a_commit, opened_desk
from support.raw_push import RawObject, commit, push_request, tree

SIDE = "refs/heads/side"
PUSHES = {"http-small": (True, 40_000), "http": (True, 1 << 20), "ssh": (False, 1 << 20)}
LOOPS: dict[str, Run] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture
def desk(sqlite_template: Path, tmp_path: Path) -> Iterator[Desk]:
    database = migrated_sqlite(sqlite_template, ":memory:")
    with opened_desk(database, tmp_path / "desk") as desk:
        yield desk
    database.close()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    return LOOPS[request.param]


@pytest.fixture(autouse=True)
def _no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What nobody waits for is said by asyncio, when it is collected."""
    yield
    assert [each.getMessage() for each in caplog.records if each.levelname in {"ERROR", "CRITICAL"}] == []


def trickling(body: bytes) -> list[bytes]:
    """Most of it at once, the rest byte by byte: some byte comes at every turn of the event loop."""
    return [body[:-20_000], *(bytes([each]) for each in body[-20_000:])]


def new_commit(size_bytes: int, parent: str | None = None) -> tuple[list[RawObject], str]:
    made = a_commit(random.Random(size_bytes).randbytes(size_bytes))
    made[-1] = commit(made[1], parent, "More.")
    return made, made[-1].oid


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("form", PUSHES)
def test_a_push_whose_pack_is_not_taken(desk: Desk, tmp_path: Path, run: Run, moment: str, form: str) -> None:
    stateless, size_bytes = PUSHES[form]
    made, tip = new_commit(size_bytes)
    body = push_request([(SIDE, ZERO_OID, tip)], made)
    version = desk.ledger.repository(desk.id).version
    with deadly_git(tmp_path / "git", "index-pack", moment):
        said = desk.push(*trickling(body), stateless=stateless, run=run)
    assert b"unpack git was ended by signal 9" in said
    assert b"ng " + SIDE.encode() + b" unpacker error" in said
    assert desk.ledger.repository(desk.id).version == version
    assert b"ok " + SIDE.encode() in desk.push(body)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", ["rev-list", "cat-file", "merge-base"])
def test_a_push_that_is_not_looked_into(desk: Desk, tmp_path: Path, moment: str, victim: str) -> None:
    """It is no verdict: the same push goes well afterwards."""
    rules = replace(RULES, branches=[ProtectedRef("main", Role.MAINTAINER)])
    made, tip = new_commit(1000, desk.tip)
    tag = RawObject("tag", f"object {tip}\ntype commit\ntag v1\ntagger Ada <a@b> 1 +0000\n\nv1\n".encode())
    updates = [(MAIN, desk.tip, tip), ("refs/tags/v1", ZERO_OID, tag.oid)]
    body = push_request(updates, [*made, tag])
    with deadly_git(tmp_path / "git", victim, moment):
        said = desk.push(body, rules=rules)
    for name, _, _ in updates:
        assert f"ng {name} the objects could not be looked into: push again; nothing changed".encode() in said
    assert desk.push(body, rules=rules).count(b"ok refs/") == 2


def test_a_push_that_borrows_and_is_not_searched(desk: Desk, tmp_path: Path) -> None:
    """It reuses a tree, which is the tip of nothing."""
    top = tree({"data": a_commit(random.Random(7).randbytes(4 << 20))[0]})
    borrowing = commit(tree({"sub": top}), None, "Borrows.")
    body = push_request([(SIDE, ZERO_OID, borrowing.oid)], [tree({"sub": top}), borrowing])
    with deadly_git(tmp_path / "git", "rev-list --objects --no-object-names --use", "at once"):
        said = desk.push(body)
    assert b"ng " + SIDE.encode() + b" the search for an object was ended: try again; nothing changed" in said
    assert b"ok " + SIDE.encode() in desk.push(body)


def v2_request(*wants: str) -> bytes:
    lines = b"".join(encode(f"want {want}\n".encode()) for want in wants)
    return encode(b"command=fetch\n") + DELIM + lines + encode(b"done\n") + FLUSH


def v0_request(want: str) -> bytes:
    return encode(f"want {want} side-band-64k\n".encode()) + FLUSH + encode(b"done\n")


REQUESTS = {
    "v2-http": (2, True, v2_request),
    "v2-ssh": (2, False, v2_request),
    "v0-http": (0, True, v0_request),
    "v0-ssh": (0, False, v0_request),
}


@pytest.mark.parametrize(
    ("form", "moment"),
    # In a session of v0 git speaks first, so that there is nothing to read for one that does not.
    [each for each in product(REQUESTS, MOMENTS) if each != ("v0-ssh", "while it reads")],
)
def test_a_fetch(desk: Desk, tmp_path: Path, run: Run, form: str, moment: str) -> None:
    """Said to the client, as a status while there is no answer yet; the third asks for a kept answer."""
    version, stateless, request_of = REQUESTS[form]
    request = request_of(desk.tip)
    with deadly_git(tmp_path / "git", "upload-pack", moment):
        for _ in range(3):
            if stateless and moment in {"at once", "while it reads"}:
                with pytest.raises(Unavailable, match="try again"):
                    desk.fetch(request, version=version, stateless=stateless, run=run)
            else:
                said = desk.fetch(request, version=version, stateless=stateless, run=run)
                assert b"ERR " in said
                assert b"try again" in said[-100:]
    whole = desk.fetch(request, version=version, stateless=stateless, run=run)
    assert len(whole) > 4 << 20
    assert b"ERR " not in whole[-100:]


@pytest.mark.parametrize("form", ["v2-http", "v2-ssh", "v0-http"])
def test_a_fetch_whose_first_git_is_killed_is_made_again(
    desk: Desk, tmp_path: Path, run: Run, form: str
) -> None:
    version, stateless, request_of = REQUESTS[form]
    with deadly_git(tmp_path / "git", "upload-pack", "while it reads", once=True):
        said = desk.fetch(request_of(desk.tip), version=version, stateless=stateless, run=run)
    assert len(said) > 4 << 20


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fetch_of_what_is_no_tip(desk: Desk, tmp_path: Path, moment: str) -> None:
    """Whatever is killed in the search: "not our ref" is said of nothing that can be reached."""
    wanted = a_commit(random.Random(7).randbytes(4 << 20))[1].oid
    for number, victim in enumerate(["cat-file", "rev-list --max", "rev-list --objects"]):
        desk.push(push_request([(f"refs/heads/n{number}", ZERO_OID, desk.tip)], []))  # searched anew
        with deadly_git(tmp_path / f"git-{number}", victim, moment):
            try:
                said = desk.fetch(v2_request(wanted))
            except Unavailable as failed:
                said = str(failed).encode()
        assert b"not our ref" not in said
        assert len(said) > 4 << 20 or b"try again" in said
