"""The primary's end of forwarding: looks and sessions of other sites."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from mainstay.doors.forwarded.app import Ends, ForwardedDoor
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.product.projects.admission import NOBODY
from mainstay.product.projects.vouching import Asked, Vouching
from mainstay.repository.remote import faults, frames
from mainstay.repository.remote.calls import Session
from mainstay.repository.remote.frames import FrameReader, Kind, frame
from mainstay.repository.streams import ClientGone
from support.asgi import Client, Reply

LOOK = "/-/sites/v1/look"
SESSION = "/-/sites/v1/session"
ASKED = Session(
    fingerprint="SHA256:abc",
    address="192.0.2.9",
    command="git-receive-pack 'ada/engine'",
    git_protocol="version=2",
    hops=1,
)
Host = Callable[[Session, Ends], Awaitable[int]]


class Answering:
    """In the place of `Vouching`."""

    def __init__(self, said: dict[str, Any] | Exception) -> None:
        self.said = said
        self.asked: list[Asked] = []

    def look(self, asked: Asked) -> dict[str, Any]:
        self.asked.append(asked)
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


async def _nobody(_session: Session, _ends: Ends) -> int:
    pytest.fail("no session was asked for")


def ask(
    method: str,
    path: str,
    *pieces: bytes,
    said: dict[str, Any] | Exception | None = None,
    host: Host = _nobody,
    is_primary: bool = True,
) -> Reply:
    async def asked() -> Reply:
        door = ForwardedDoor(
            vouching=cast("Vouching", Answering(said or {})),
            host=host,
            is_primary=lambda: is_primary,
            clock=ManualClock(),
        )

        async def application(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {"mainstay.site": "01SITE"}
            assert door.claims(scope)
            await door(scope, receive, send)

        try:
            return await Client(pieces or (b"",)).request(application, method, path)
        finally:
            door.close()

    return asyncio.run(asyncio.wait_for(asked(), 30))


def spoken(reply: Reply) -> list[tuple[Kind, bytes]]:
    """The frames of an answer, without signs of life."""
    reader, found = FrameReader(), []
    reader.feed(reply.body)
    while (each := reader.next()) is not None:
        if each.kind is not Kind.ALIVE:
            found.append((each.kind, each.body))
    return found


def question(*data: bytes) -> tuple[bytes, ...]:
    return (frame(Kind.PARAMETERS, ASKED.encode()), *(frame(Kind.DATA, each) for each in data), frames.END)


def test_a_look_is_answered() -> None:
    body = json.dumps(Asked(NOBODY, "ada/engine", "192.0.2.9").facts()).encode()
    reply = ask("POST", LOOK, body[:7], body[7:], said={"version": 7})
    assert (reply.status, json.loads(reply.body)) == (200, {"version": 7})


@pytest.mark.parametrize(
    ("method", "body", "said", "is_primary", "status"),
    [
        ("GET", b"", {}, True, 405),
        ("POST", b"{}", {}, True, 400),
        ("POST", b"no json", {}, True, 400),
        ("POST", b"x" * 70_000, {}, True, 400),
        ("POST", None, Unavailable("the database is away"), True, 503),
        ("POST", None, {}, False, 409),
    ],
)
def test_a_look_that_cannot_be_answered_says_why(
    method: str, body: bytes | None, said: Any, is_primary: bool, status: int
) -> None:
    good = json.dumps(Asked(NOBODY, "ada/engine", "192.0.2.9").facts()).encode()
    reply = ask(method, LOOK, good if body is None else body, said=said, is_primary=is_primary)
    assert reply.status == status
    assert json.loads(reply.body)["message"]


def test_somebody_is_here() -> None:
    assert ask("GET", "/-/sites/v1/alive", is_primary=False).status == 200


def test_a_session_is_held_with_all_three_ends_and_its_exit_code() -> None:
    async def host(session: Session, ends: Ends) -> int:
        assert session == ASKED
        await ends.write(b"refs")
        read = b""
        while piece := await ends.read():
            read += piece
        assert read == b"a pack"
        await ends.complain("ERROR: not so")
        return 3

    reply = ask("POST", SESSION, *question(b"a ", b"pack"), host=host)
    assert spoken(reply) == [
        (Kind.BEGUN, b""),
        (Kind.DATA, b"refs"),
        (Kind.ASIDE, b"ERROR: not so"),
        (Kind.END, b"\x03"),
    ]


def test_an_unknown_outcome_is_no_exit_code() -> None:
    async def host(_session: Session, _ends: Ends) -> int:
        raise OutcomeUnknown("nobody knows")

    reply = ask("POST", SESSION, *question(), host=host)
    (_, body) = spoken(reply)[-1]
    assert isinstance(faults.heard(body), OutcomeUnknown)


def test_a_session_that_is_cut_has_no_end() -> None:
    async def host(_session: Session, _ends: Ends) -> int:
        raise ClientGone

    reply = ask("POST", SESSION, *question(), host=host)
    assert [kind for kind, _ in spoken(reply)] == [Kind.BEGUN]
    assert not reply.completed


@pytest.mark.parametrize(
    "body", [frame(Kind.PARAMETERS, b"{}"), frame(Kind.DATA, b"x"), frames.END, b"\xff" * 5]
)
def test_sessions_are_read_strictly(body: bytes) -> None:
    assert ask("POST", SESSION, body).status == 400


def test_a_shell_is_a_session_too() -> None:
    shell = Session(fingerprint="SHA256:abc", address="", command=None, git_protocol="", hops=0)
    assert Session.decode(shell.encode()) == shell
    assert Session.decode(ASKED.encode()) == ASKED
