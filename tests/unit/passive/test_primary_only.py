"""Pages and API on a site that is not the primary: who is told what, and that nobody else is asked."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from mainstay.cluster.station import ALONE, Lag, Progress, Sight, lag_of
from mainstay.doors.passive.app import PrimaryOnly, behind
from mainstay.storage.database.fence import Claim
from support.asgi import Reply, ask

PARIS = Claim(3, "01SITE", "paris", "https://paris.example")
REPLICA = Sight("replica", "its database follows that of paris", PARIS, Lag(0.0, 0, is_connected=True))
_BROWSER = ("Accept", "text/html,*/*;q=0.8")


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the web process"})


def answer(sight: Sight, method: str, address: str, *headers: tuple[str, str], reads: bool = False) -> Reply:
    door = PrimaryOnly(
        _app,
        sight=lambda: sight,
        page=lambda title, content: f"<title>{title}</title>{content}".encode(),
        style=("/style.css", b"p {}"),
        headers={"X-Frame-Options": "DENY"},
        reads=reads,
    )
    return asyncio.run(ask(door, method, address, *headers))


def test_a_primary_serves() -> None:
    assert answer(ALONE, "GET", "/").text == "the web process"
    assert answer(Sight("primary", "it is", PARIS), "POST", "/api/v4/projects").status == 200


def test_people_are_shown_where_the_primary_is() -> None:
    reply = answer(REPLICA, "GET", "/ada/engine", _BROWSER)
    assert (reply.status, reply.headers["retry-after"], reply.headers["x-frame-options"]) == (
        503,
        "30",
        "DENY",
    )
    assert "<h1>Server in replication mode</h1>" in reply.text
    assert '<a href="https://paris.example">' in reply.text
    assert "<dd>nothing</dd>" in reply.text
    assert answer(REPLICA, "GET", "/style.css").text == "p {}"


def test_programs_are_told_in_json() -> None:
    reply = answer(REPLICA, "POST", "/api/v4/projects", _BROWSER)
    assert (reply.status, reply.headers["connection"]) == (503, "close")
    assert json.loads(reply.body) == {
        "message": "Server in replication mode: its database follows that of paris",
        "role": "replica",
        "primary": "https://paris.example",
        "primary_site": "paris",
        "epoch": 3,
        "lag": {"seconds": 0.0, "pending_bytes": 0, "connected": True},
    }


def test_a_replica_that_was_asked_to_lets_people_look_and_says_how_old_it_is() -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        seen = answer(REPLICA, method, "/api/v4/projects", reads=True)
        assert (seen.status, seen.headers["x-mainstay-replica"]) == (200, "behind=0s")
    late = replace(REPLICA, lag=Lag(None, 0, is_connected=False))
    assert answer(late, "GET", "/", reads=True).headers["x-mainstay-replica"] == "behind=unknown"
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert answer(REPLICA, method, "/api/v4/projects", reads=True).status == 503
    superseded = Sight("superseded", "it was superseded", PARIS)
    assert answer(superseded, "GET", "/", reads=True).status == 503, "it may have what no other site has"
    assert "x-mainstay-replica" not in answer(ALONE, "GET", "/", reads=True).headers


def test_nothing_that_a_site_is_called_becomes_html() -> None:
    evil = Claim(1, "x", "<script>alert(1)</script>", 'javascript:alert("1")')
    text = answer(replace(REPLICA, primary=evil), "GET", "/", _BROWSER).text
    assert "<script" not in text
    assert "href" not in text


def test_a_superseded_site_says_so() -> None:
    text = answer(Sight("superseded", "it was superseded", PARIS), "GET", "/", _BROWSER).text
    assert "Another site is the primary now" in text


@pytest.mark.parametrize(
    ("progress", "caught_up_ago_s", "said"),
    [
        (Progress(is_connected=True, pending_bytes=0, commit_age_s=900.0), None, "nothing"),
        (
            Progress(is_connected=True, pending_bytes=5000, commit_age_s=3700.0),
            None,
            "at most 1 h 2 min, 5,000 bytes are here and not taken in yet",
        ),
        (
            Progress(is_connected=False, pending_bytes=0, commit_age_s=900.0),
            12.0,
            "at most 12 s; the primary is not connected now",
        ),
        (Progress(is_connected=False, pending_bytes=0, commit_age_s=None), None, "not known yet"),
    ],
)
def test_how_far_behind_a_replica_says_it_is(
    progress: Progress, caught_up_ago_s: float | None, said: str
) -> None:
    lag = lag_of(progress, caught_up_ago_s=caught_up_ago_s)
    assert behind(replace(REPLICA, lag=lag)) == said
