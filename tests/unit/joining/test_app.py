"""The door for machines that join: what it takes, what it answers, and how patient it is."""

import asyncio
import json

import pytest

from mainstay.cluster.joining import TokenRefused
from mainstay.doors.joining.app import Failures, JoiningDoor, TooManyFailures, claims
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Conflict, OutcomeUnknown, Unavailable
from support.asgi import Client, Reply

ASKED = json.dumps({"id": "01JD6Q9Z4M8W3N5V7X2Y1B0CDE", "proof": "ab" * 32}).encode()


def let_in(token_id: str, proof: str, address: str) -> str:
    return f"sealed for {token_id}"


def refuse(token_id: str, proof: str, address: str) -> str:
    raise TokenRefused


def admit(token_id: str, proof: str, address: str, site: object) -> str:
    return f"admitted {site}"


def call(door: JoiningDoor, body: bytes = ASKED, *, method: str = "POST", pieces: int = 1) -> Reply:
    size = max(1, -(-len(body) // pieces))
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    return asyncio.run(Client(parts).request(door, method, "/-/join"))


def test_it_answers_one_path_only() -> None:
    assert claims({"path": "/-/join"})
    assert not claims({"path": "/-/join/"})
    assert not claims({"path": "/group/-/join"})


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_good_token_gets_the_sealed_bundle(pieces: int) -> None:
    reply = call(JoiningDoor(let_in, admit=admit, clock=ManualClock()), pieces=pieces)
    assert reply.status == 200
    assert json.loads(reply.body) == {"sealed": "sealed for 01JD6Q9Z4M8W3N5V7X2Y1B0CDE"}
    assert reply.headers["cache-control"] == "no-store"


def test_a_bad_token_is_refused_with_what_to_do() -> None:
    reply = call(JoiningDoor(refuse, admit=admit, clock=ManualClock()))
    assert reply.status == 403
    assert "mainstay node token" in json.loads(reply.body)["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b'{"id": 1}', b"\xff", b"[" * 16_000, b"x" * 20_000]
)
def test_another_body_is_no_request(body: bytes) -> None:
    assert call(JoiningDoor(let_in, admit=admit, clock=ManualClock()), body).status == 400


def test_who_says_what_site_it_is_comes_as_a_site() -> None:
    body = json.dumps({**json.loads(ASKED), "site": {"name": "paris"}}).encode()
    reply = call(JoiningDoor(refuse, admit=admit, clock=ManualClock()), body)
    assert json.loads(reply.body) == {"sealed": "admitted {'name': 'paris'}"}


def test_looking_does_nothing() -> None:
    assert call(JoiningDoor(let_in, admit=admit, clock=ManualClock()), method="GET").status == 405


@pytest.mark.parametrize(
    ("error", "status"),
    [(Unavailable("the database is away"), 503), (Conflict("SQLite"), 409), (OutcomeUnknown("lost"), 503)],
)
def test_other_errors_are_told_apart(error: Exception, status: int) -> None:
    def fail(token_id: str, proof: str, address: str) -> str:
        raise error

    assert call(JoiningDoor(fail, admit=admit, clock=ManualClock())).status == status


def test_who_shows_many_wrong_tokens_waits_a_minute() -> None:
    clock = ManualClock()
    door = JoiningDoor(refuse, admit=admit, clock=clock)
    assert [call(door).status for _ in range(11)] == [403] * 10 + [429]
    assert call(door).headers["retry-after"] == "60"
    clock.advance(61)
    assert call(door).status == 403


def test_one_address_does_not_make_another_wait() -> None:
    failures = Failures(ManualClock())
    for _ in range(10):
        failures.count("192.0.2.1")
    with pytest.raises(TooManyFailures):
        failures.check("192.0.2.1")
    failures.check("192.0.2.2")


def test_memory_for_failures_is_bounded() -> None:
    failures = Failures(ManualClock())
    for number in range(10_050):
        failures.count(str(number))
    assert len(failures._times_s) == 10_000
