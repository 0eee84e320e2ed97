"""How a process keeps up with the decree, and what its doors do about it."""

import asyncio
import json
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mainstay.boot.entrance import Door, Entrance
from mainstay.cli.maintenance import NotAMoment, moment_ms
from mainstay.doors.ssh.conversation import Asked, Conversations
from mainstay.doors.web.closed import Front, banner_html, maintenance_page
from mainstay.doors.web.pages import STYLE, STYLE_PATH
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Unavailable
from mainstay.ops.maintenance.decisions import API_SENTENCE, CLOSED_SENTENCE, PUSH_SENTENCE, Deed
from mainstay.ops.maintenance.lookout import Closed, Held, Lookout
from mainstay.ops.maintenance.routes import DeedOf, deed_of_git, deed_of_request, never_closed
from mainstay.ops.maintenance.state import OPEN, Maintenance, Mode
from mainstay.ops.maintenance.switch import Seen
from support.asgi import Reply
from support.fake_gate import FakeGate

pytestmark = pytest.mark.timeout(30)

NOW_MS = 1_800_000_000_000
READ_ONLY = Maintenance(mode=Mode.READ_ONLY, starts_ms=NOW_MS, message="new <disks>")
FULL = Maintenance(mode=Mode.FULL, starts_ms=NOW_MS, allow=("10.0.0.0/8",))
BROWSER = ("accept", "text/html,*/*")


class Decree:
    """What the database says, or that it is away."""

    def __init__(self, state: Maintenance = OPEN) -> None:
        self.state = state
        self.now_ms = NOW_MS
        self.error: Exception | None = None

    def __call__(self) -> Seen:
        if self.error:
            raise self.error
        return Seen(self.state, self.now_ms)


def lookout(decree: Decree, clock: ManualClock | None = None) -> Lookout:
    made = Lookout(decree, clock=clock or ManualClock())
    made.turn()
    return made


def test_what_was_known_last_counts_while_the_database_is_away() -> None:
    decree, clock = Decree(READ_ONLY), ManualClock()
    known = lookout(decree, clock)
    for trouble in (Unavailable("away"), ValueError("a mode of a newer version")):
        decree.error = trouble
        known.turn()
        assert known.mode is Mode.READ_ONLY
        with pytest.raises(Closed, match="Git push is not allowed"):
            known.check(Deed.PUSH, address="10.0.0.1")
    decree.error, decree.state = None, OPEN
    known.turn()
    known.check(Deed.PUSH, address="10.0.0.1")


def test_time_is_the_databases_and_goes_on_between_looks() -> None:
    decree, clock = Decree(Maintenance(mode=Mode.FULL, starts_ms=NOW_MS + 30_000)), ManualClock()
    known = lookout(decree, clock)
    assert (known.mode, known.now_ms) == (Mode.OFF, NOW_MS)
    decree.error = Unavailable("away")
    clock.advance(30)
    known.turn()
    assert known.mode is Mode.FULL


class App:
    """Answers `hello` with what it was told."""

    def __init__(self) -> None:
        self.scopes: list[MutableMapping[str, Any]] = []

    async def __call__(self, scope: MutableMapping[str, Any], _receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


class Asker:
    """One request; `pieces` of its body that were not read are left."""

    def __init__(self, method: str, address: str, *headers: tuple[str, str], pieces: int = 0) -> None:
        path, _, query = address.partition("?")
        self.scope: MutableMapping[str, Any] = {
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "client": ("192.0.2.7", 0),
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }
        self.pieces = pieces
        self.reply = Reply()

    def at(self, address: str) -> "Asker":
        self.scope["client"] = (address, 0)
        return self

    async def receive(self) -> MutableMapping[str, Any]:
        self.pieces -= 1
        return {"type": "http.request", "body": b"x" * 65536, "more_body": self.pieces > 0}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.reply.status = message["status"]
            self.reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.reply.body += message.get("body", b"")

    async def through(self, front: Front, app: App, deed_of: DeedOf = deed_of_request) -> Reply:
        await front.lead(app, deed_of, self.scope, self.receive, self.send)
        return self.reply


def meet(state: Maintenance, asker: Asker, deed_of: DeedOf = deed_of_request) -> tuple[Reply, App]:
    app = App()
    return asyncio.run(asker.through(Front(lookout(Decree(state))), app, deed_of)), app


def test_the_api_is_told_in_the_words_that_its_clients_know() -> None:
    asker = Asker("POST", "/api/v4/projects", BROWSER, ("content-length", "65536"), pieces=1)
    reply, app = meet(READ_ONLY, asker)
    assert (reply.status, app.scopes, asker.pieces) == (503, [], 0)
    told = json.loads(reply.body)
    assert told["message"] == API_SENTENCE
    assert told["maintenance"]["message"] == "new <disks>"
    assert reply.headers["retry-after"] == "60"
    assert "connection" not in reply.headers
    assert json.loads(reply.headers["x-mainstay-maintenance"])["mode"] == "read-only"


def test_a_browser_gets_a_page_and_the_style_of_it() -> None:
    reply, app = meet(FULL, Asker("GET", "/ada/engine", BROWSER))
    assert (reply.status, app.scopes) == (503, [])
    assert "temporarily unavailable" in reply.text
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    style, _ = meet(FULL, Asker("GET", STYLE_PATH))
    assert (style.status, style.body) == (200, STYLE)
    assert b"new &lt;disks&gt;" in maintenance_page({"mode": "read-only", "message": "new <disks>"})


@pytest.mark.parametrize(
    ("state", "address", "sentence"),
    [
        (READ_ONLY, "/a/b.git/info/refs?service=git-receive-pack", f"{PUSH_SENTENCE}\nnew <disks>\n"),
        (READ_ONLY, "/a/b.git/git-receive-pack", f"{PUSH_SENTENCE}\nnew <disks>\n"),
        (FULL, "/a/b.git/git-upload-pack", f"{CLOSED_SENTENCE}\n"),
    ],
)
def test_git_is_told_a_sentence(state: Maintenance, address: str, sentence: str) -> None:
    reply, app = meet(state, Asker("POST", address), deed_of_git)
    assert (reply.status, reply.text, app.scopes) == (503, sentence, [])
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_large_pack_is_not_read_and_the_connection_ends() -> None:
    asker = Asker("POST", "/a/b.git/git-receive-pack", ("transfer-encoding", "chunked"), pieces=1000)
    reply, _ = meet(READ_ONLY, asker, deed_of_git)
    assert (reply.status, reply.headers["connection"]) == (503, "close")
    assert asker.pieces > 900
    asker = Asker("PUT", "/api/v4/x", ("content-length", "9"), ("expect", "100-continue"), pieces=1)
    reply, _ = meet(READ_ONLY, asker)
    assert (reply.headers["connection"], asker.pieces) == ("close", 1)


def test_who_may_is_led_on_and_hears_of_it() -> None:
    for asker in (Asker("GET", "/"), Asker("POST", "/oauth/token")):
        reply, app = meet(READ_ONLY, asker)
        assert (reply.status, reply.text) == (200, "hello")
        assert json.loads(reply.headers["x-mainstay-maintenance"])["state"] == "on"
        assert json.loads(app.scopes[0]["maintenance"])["mode"] == "read-only"
    fetched, app = meet(READ_ONLY, Asker("POST", "/a/b.git/git-upload-pack"), deed_of_git)
    assert (fetched.status, fetched.headers, "maintenance" in app.scopes[0]) == (200, {}, False)
    quiet, app = meet(OPEN, Asker("POST", "/api/v4/projects"))
    assert (quiet.status, quiet.headers) == (200, {})


@pytest.mark.parametrize(
    ("method", "door", "status"),
    [
        ("POST", Door("forgotten", lambda _scope: True, App()), 503),
        ("GET", Door("forgotten", lambda _scope: True, App()), 200),
        ("POST", Door("machines", lambda _scope: True, App(), never_closed), 200),
    ],
)
def test_a_door_that_says_nothing_about_maintenance_takes_no_writes(
    method: str, door: Door, status: int
) -> None:
    entrance = Entrance(
        [door], trusted_proxies=(), is_draining=lambda: False, front=Front(lookout(Decree(READ_ONLY)))
    )
    asker = Asker(method, "/new")
    asker.scope |= {"type": "http", "scheme": "http"}
    asyncio.run(entrance(asker.scope, asker.receive, asker.send))
    assert asker.reply.status == status


def test_an_excepted_address_is_led_on_and_a_claimed_one_is_not() -> None:
    assert meet(FULL, Asker("POST", "/api/v4/projects").at("10.9.9.9"))[0].status == 200
    liar = Asker("POST", "/api/v4/projects", ("x-forwarded-for", "10.9.9.9"), ("x-real-ip", "10.9.9.9"))
    assert meet(FULL, liar)[0].status == 503


def test_writes_wait_for_a_failover_unread_and_go_on_after_it() -> None:
    async def story() -> None:
        decree = Decree(Maintenance(hold_until_ms=NOW_MS + 30_000))
        known, app = lookout(decree), App()
        front = Front(known, held_max=2)
        push = Asker("POST", "/a/b.git/git-receive-pack", pieces=9)
        write = Asker("DELETE", "/api/v4/projects/1")
        waiting = [
            asyncio.create_task(push.through(front, app, deed_of_git)),
            asyncio.create_task(write.through(front, app)),
        ]
        await asyncio.sleep(0)
        assert (await Asker("GET", "/").through(front, app)).status == 200
        third = await Asker("PUT", "/api/v4/user").through(front, app)
        assert (third.status, third.headers["retry-after"]) == (503, "5")
        assert (len(app.scopes), push.pieces) == (1, 9)
        decree.state = OPEN
        known.turn()
        assert [reply.status for reply in await asyncio.gather(*waiting)] == [200, 200]

    asyncio.run(story())


def test_a_failover_that_takes_too_long_refuses_who_waited() -> None:
    async def story() -> None:
        decree, clock = Decree(Maintenance(hold_until_ms=NOW_MS + 30_000)), ManualClock()
        known = lookout(decree, clock)
        push = Asker("POST", "/a/b.git/git-receive-pack")
        waiting = asyncio.create_task(push.through(Front(known), App(), deed_of_git))
        await asyncio.sleep(0)
        decree.error = Unavailable("the old primary is gone")
        clock.advance(30)
        reply = await waiting
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert "takes longer than it should" in reply.text

    asyncio.run(story())


class Line:
    """A client of SSH that must not be read from."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.heard = b""

    async def read(self) -> bytes:
        raise AssertionError("nothing is read before the decision")

    async def write(self, chunk: bytes) -> None:
        self.heard += chunk

    async def complain(self, text: str) -> None:
        self.complaints.append(text)


def over_ssh(known: Lookout, command: str | None, address: str = "192.0.2.7") -> tuple[int, list[str]]:
    line, gate = Line(), FakeGate()
    with ThreadPoolExecutor(1) as threads:
        conversations = Conversations(
            service=None,  # type: ignore[arg-type]  # nobody gets so far
            gate=gate,
            threads=threads,
            clock=ManualClock(),
            clone_url=lambda path: path,
            maintenance=known,
        )
        asked = Asked(fingerprint="SHA256:nobody", address=address, command=command)
        return asyncio.run(conversations.hold(asked, line)), line.complaints


def test_ssh_says_the_same() -> None:
    assert over_ssh(lookout(Decree(READ_ONLY)), "git-receive-pack 'a/b'") == (
        1,
        [f"ERROR: {PUSH_SENTENCE}\nnew <disks>"],
    )
    for command in (None, "git-upload-pack 'a/b'", "git-receive-pack 'a/b'"):
        assert over_ssh(lookout(Decree(FULL)), command) == (1, [f"ERROR: {CLOSED_SENTENCE}"])
        code, said = over_ssh(lookout(Decree(FULL)), command, address="10.1.1.1")
        assert (code, "maintenance" in said[0]) == (1, False), "the key is unknown, which was looked at"
    held = lookout(Decree(Maintenance(hold_until_ms=NOW_MS + 5_000)))
    code, said = over_ssh(held, "git-receive-pack 'a/b'")
    assert (code, "planned failover" in said[0]) == (1, True), "more wait than may"
    with pytest.raises(Held):
        held.check(Deed.PUSH, address="10.1.1.1")


def test_pages_show_what_is_coming_and_what_is() -> None:
    banner = {"state": "scheduled", "mode": "full", "message": "<b>", "starts_at": "2026-12-24T21:00:00.000Z"}
    shown = banner_html(json.dumps(banner))
    assert "From 2026-12-24 21:00 UTC this site is closed for maintenance. &lt;b&gt;" in shown
    assert "This site is read-only" in banner_html(
        json.dumps({**banner, "state": "on", "mode": "read-only", "message": ""})
    )
    assert banner_html("") == ""


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("+30m", NOW_MS + 1_800_000),
        ("+2h", NOW_MS + 7_200_000),
        ("2027-01-15T08:00:01Z", 1_800_000_001_000),
        ("2027-01-15T09:00:01+01:00", 1_800_000_001_000),
    ],
)
def test_moments(text: str, at_ms: int) -> None:
    assert moment_ms(text, now_ms=NOW_MS) == at_ms


@pytest.mark.parametrize("text", ["", "tomorrow", "30m", "+0m", "22:00", "2027-01-15T08:00:01", "2027-01-15"])
def test_what_could_be_several_moments_is_refused(text: str) -> None:
    with pytest.raises(NotAMoment):
        moment_ms(text, now_ms=NOW_MS)
