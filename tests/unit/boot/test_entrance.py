"""What every request meets first."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from mainstay.boot.entrance import AnswerCut, Door, Entrance
from mainstay.boot.parsing import networks
from mainstay.foundation.ids import is_ulid

Sent = list[dict[str, Any]]


class Seen:
    """A door that remembers the scope it was given and answers `hello`."""

    def __init__(self, *, fails: bool = False, begins: bool = True) -> None:
        self.scope: dict[str, Any] = {}
        self._fails = fails
        self._begins = begins

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.scope = dict(scope)
        if self._begins:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        if self._fails:
            raise RuntimeError("a bug")
        await send({"type": "http.response.body", "body": b"hello"})


def call(door: Seen, *, peer: str = "10.0.0.1", draining: bool = False, headers: Mapping[str, str]) -> Sent:
    sent: Sent = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    entrance = Entrance(
        [Door("test", lambda _scope: True, door)],
        trusted_proxies=networks("10.0.0.0/8"),
        is_draining=lambda: draining,
    )
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "scheme": "http",
        "client": (peer, 1234),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(entrance(scope, receive, send))
    return sent


def answered(sent: Sent) -> dict[bytes, bytes]:
    return dict(sent[0]["headers"])


def test_a_trusted_proxy_is_believed() -> None:
    door = Seen()
    given = {"x-forwarded-for": "1.2.3.4", "x-forwarded-proto": "https", "x-request-id": "abc-1"}
    sent = call(door, headers=given)
    assert door.scope["client"] == ("1.2.3.4", 0)
    assert door.scope["scheme"] == "https"
    assert dict(door.scope["headers"]) == {b"x-request-id": b"abc-1"}
    assert answered(sent)[b"x-request-id"] == b"abc-1"


def test_a_stranger_is_not() -> None:
    door = Seen()
    given = {"x-forwarded-for": "1.2.3.4", "x-forwarded-proto": "https", "x-request-id": "abc-1"}
    sent = call(door, peer="203.0.113.9", headers=given)
    assert door.scope["client"] == ("203.0.113.9", 0)
    assert door.scope["scheme"] == "http"
    assert b"x-forwarded-for" not in dict(door.scope["headers"])
    assert is_ulid(answered(sent)[b"x-request-id"].decode())


def test_nothing_that_speaks_for_a_client_goes_further_in() -> None:
    claims = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "forwarded")
    for peer in ("10.0.0.1", "203.0.113.9"):
        door = Seen()
        call(door, peer=peer, headers={**dict.fromkeys(claims, "1.2.3.4"), "host": "git.test"})
        assert set(dict(door.scope["headers"])) == {b"host", b"x-request-id"}


def test_an_id_that_could_forge_a_log_line_is_replaced() -> None:
    sent = call(Seen(), headers={"x-request-id": 'a"} {"event": "x'})
    assert is_ulid(answered(sent)[b"x-request-id"].decode())


def test_while_draining_connections_are_closed() -> None:
    assert answered(call(Seen(), draining=True, headers={}))[b"connection"] == b"close"
    assert b"connection" not in answered(call(Seen(), headers={}))


def test_a_bug_before_the_answer_is_a_500_that_says_nothing() -> None:
    sent = call(Seen(fails=True, begins=False), headers={})
    assert sent[0]["status"] == 500
    assert b"a bug" not in sent[1]["body"]


def test_a_bug_in_the_middle_of_an_answer_cuts_it() -> None:
    with pytest.raises(AnswerCut):
        call(Seen(fails=True), headers={})
