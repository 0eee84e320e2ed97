"""Git over HTTP on a replica: who answers, what they are given, and what is sent on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mainstay.access.actors import Actor, Kind
from mainstay.cluster.station import Lag, Sight
from mainstay.doors.githttp import replica
from mainstay.doors.githttp.passing import Passage, answer_headers, request_headers
from mainstay.doors.githttp.replica import ReplicaGit, is_under_a_repository
from mainstay.doors.githttp.visit import ELSEWHERE, RoleChanged
from mainstay.foundation.clock import ManualClock
from mainstay.product.accounts.identify import WrongCredentials
from mainstay.product.projects.admission import Admission
from mainstay.product.projects.vouching import Vouched
from mainstay.repository.forwarding.chooser import Choice, Chooser
from mainstay.repository.forwarding.decisions import Refuse, SendOn, ServeHere, ServeStale
from mainstay.repository.forwarding.line import Line
from mainstay.repository.forwarding.whereabouts import Primary, PrimaryAway
from mainstay.storage.database.fence import Claim
from support.asgi import Client, Reply, basic

PARIS = Claim(1, "01PARIS", "paris", "https://paris.example")
REPLICA = Sight("replica", "it follows", PARIS, Lag(0.0, 0, is_connected=True))
PRIMARY = Sight("primary", "it is", PARIS)
THERE = Primary("01PARIS", "paris", "127.0.0.1", 1)
ADMISSION = Admission(actor=Actor(kind=Kind.USER, id=7), path="ada/engine", repository_id=11)
FETCH = "/ada/engine.git/info/refs?service=git-upload-pack"
PUSH = "/ada/engine.git/git-receive-pack"


@dataclass
class World:
    """The site (which changes its roles as listed), its primary, and the ordinary door."""

    sights: list[Sight] = field(default_factory=lambda: [REPLICA])
    choices: list[Choice[Vouched]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    served: list[Any] = field(default_factory=list)
    sent_on: list[Passage] = field(default_factory=list)
    local: Callable[[Any, Any], None] = lambda _scope, _body: None
    line_fails: int = 0
    clock: ManualClock = field(default_factory=ManualClock)
    line: Any = None

    def sight(self) -> Sight:
        return self.sights.pop(0) if len(self.sights) > 1 else self.sights[0]

    async def choose(self, **asked: Any) -> Choice[Vouched]:
        self.asked.append(asked)
        self.clock.advance(1)
        return self.choices.pop(0) if len(self.choices) > 1 else self.choices[0]

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.served.append(scope.get(ELSEWHERE))
        self.local(scope, message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here:" + message["body"]})

    async def pass_on(self, line: Line, primary: Primary, passage: Passage) -> None:
        assert (line, primary) == (self.line, THERE)
        if self.line_fails:
            self.line_fails -= 1
            raise PrimaryAway("connection refused")
        self.sent_on.append(passage)
        message = await passage.receive()
        await passage.send({"type": "http.response.start", "status": 200, "headers": []})
        await passage.send({"type": "http.response.body", "body": b"there:" + message["body"]})

    def ask(self, method: str, address: str, *headers: tuple[str, str], body: bytes = b"") -> Reply:
        chooser = cast("Chooser[Vouched]", self)
        return asyncio.run(self._ask(chooser, method, address, headers, body))

    async def _ask(
        self, chooser: Chooser[Vouched], method: str, address: str, headers: Any, body: bytes
    ) -> Reply:
        door = ReplicaGit(self.app, chooser, clock=self.clock)
        return await Client([body]).request(door, method, address, *headers)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(replica, "pass_on", made.pass_on)
    monkeypatch.setattr(replica, "_PAUSE_S", 0)
    return made


def choice(step: Any, answer: Vouched | None = None) -> Choice[Vouched]:
    return Choice(step, REPLICA, THERE, answer)


def test_where_there_are_no_sites_nothing_is_asked(world: World) -> None:
    world.sights = [Sight("primary", "there are no other sites")]
    assert world.ask("POST", PUSH, body=b"x").text == "here:x"
    assert (world.asked, world.served) == ([], [None])


def test_a_primary_serves_what_it_is_asked(world: World) -> None:
    world.sights = [PRIMARY]
    assert world.ask("POST", PUSH, body=b"x").text == "here:x"
    assert world.asked == []


def test_a_push_is_sent_on_with_its_body(world: World) -> None:
    world.choices = [choice(SendOn("it is a push"))]
    assert world.ask("POST", PUSH, body=b"pack").text == "there:pack"
    assert world.asked == [{"asked": None, "hops": 0, "away": ""}]


def test_a_fetch_asks_the_primary_with_the_credentials_of_the_client(world: World) -> None:
    world.choices = [choice(ServeHere("fresh"), Vouched(7, ADMISSION))]
    assert world.ask("GET", FETCH, basic("ada", "secret")).text == "here:"
    assert world.asked[0]["asked"] == {
        "credentials": {"kind": "basic", "username": "ada", "secret": "secret"},
        "path": "ada/engine",
        "address": "192.0.2.7",
    }
    assert world.served[0].admission is ADMISSION


def test_what_cannot_be_read_as_a_fetch_is_the_primary_to_refuse(world: World) -> None:
    world.choices = [choice(SendOn("it says so best itself"))]
    for address, header in (
        ("/ada/engine.git/info/refs?service=git-upload-pack&service=x", ("accept", "*/*")),
        ("/ada/engine.git/info/lfs/objects/batch", ("accept", "*/*")),
        (FETCH, ("authorization", "Digest x")),
    ):
        assert world.ask("GET", address, header).text == "there:"
    assert [each["asked"] for each in world.asked] == [None, None, None]


def test_a_refusal_that_was_counted_is_told_here(world: World) -> None:
    refusal = WrongCredentials()
    world.choices = [choice(SendOn("refused"), Vouched(None, refusal=refusal))]
    world.ask("GET", FETCH)
    assert (world.served[0].refusal, world.sent_on) == (refusal, [])


def test_a_stale_answer_says_so(world: World) -> None:
    world.choices = [choice(ServeStale("away", "The primary does not answer.", "12s"))]
    reply = world.ask("GET", FETCH)
    assert reply.headers["x-mainstay-replica"] == "behind=12s"
    assert world.served[0].remark == "The primary does not answer."


def test_a_push_waits_a_moment_for_a_primary_and_is_then_told(world: World) -> None:
    world.choices = [choice(Refuse("away", "the primary does not answer"))]
    reply = world.ask("POST", PUSH, body=b"pack")
    assert (reply.status, reply.text) == (503, "the primary does not answer\n")
    assert (reply.headers["retry-after"], reply.headers["connection"]) == ("10", "close")
    assert len(world.asked) == 5, "one second of the clock each"


def test_a_push_that_waits_is_served_by_who_is_promoted(world: World) -> None:
    away = choice(Refuse("away", "the primary does not answer"))
    world.choices = [away, away, choice(ServeHere("this site is the primary"))]
    assert world.ask("POST", PUSH, body=b"pack").text == "here:pack"


def test_a_fetch_whose_primary_goes_away_on_the_way_is_chosen_for_again(world: World) -> None:
    world.line_fails = 1
    world.choices = [choice(SendOn("newer")), choice(ServeStale("away", "It is away.", "1s"))]
    assert world.ask("GET", FETCH).text == "here:"
    assert [each["away"] for each in world.asked] == ["", "connection refused"]


def test_a_request_that_waited_while_the_site_became_a_replica_goes_on_whole(world: World) -> None:
    world.sights = [PRIMARY, REPLICA]
    world.choices = [choice(SendOn("it is a push"))]

    def moved(scope: Any, body: bytes) -> None:
        assert body == b"pack"
        if scope[ELSEWHERE].has_moved():
            raise RoleChanged

    world.local = moved
    assert world.ask("POST", PUSH, body=b"pack").text == "there:pack"


@pytest.mark.parametrize(
    ("path", "is_under"),
    [
        (b"/ada/engine.git/info/refs", True),
        (b"/ada/engine.git/git-receive-pack", True),
        (b"/ada/engine/git-upload-pack", True),
        (b"/ada/engine.git/info/lfs/objects/batch", True),
        (b"/ada/engine/-/blob/main/x.git/info", False),
        (b"/api/v4/projects/x.git/info", False),
        (b"/ada/engine", False),
        (b"/", False),
    ],
)
def test_what_belongs_to_git(path: bytes, is_under: bool) -> None:
    assert is_under_a_repository(path) is is_under


def test_headers_of_one_connection_are_not_sent_on() -> None:
    scope = {
        "client": ("192.0.2.7", 0),
        "scheme": "https",
        "headers": [
            (b"host", b"berlin.example"),
            (b"authorization", b"Basic eA=="),
            (b"content-encoding", b"gzip"),
            (b"transfer-encoding", b"chunked"),
            (b"connection", b"keep-alive, x-private"),
            (b"x-private", b"1"),
            (b"x-mainstay-hops", b"1"),
            (b"git-protocol", b"version=2"),
        ],
    }
    assert request_headers(scope, hops=2) == [
        (b"host", b"berlin.example"),
        (b"authorization", b"Basic eA=="),
        (b"content-encoding", b"gzip"),
        (b"git-protocol", b"version=2"),
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-proto", b"https"),
        (b"x-mainstay-hops", b"2"),
    ]
    answered = [(b"WWW-Authenticate", b"Basic"), (b"Date", b"x"), (b"Connection", b"close")]
    assert answer_headers(answered) == [(b"www-authenticate", b"Basic")]
