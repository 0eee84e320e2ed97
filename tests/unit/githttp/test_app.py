"""The door of Git over HTTP: what is answered to whom, with a service that only notes what it is asked."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from mainstay.access.policy import PushRules
from mainstay.doors.githttp.app import GitHttp
from mainstay.doors.githttp.settings import GitHttpSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Conflict, OutcomeUnknown, Unavailable
from mainstay.git.protocol.services import Service
from mainstay.product.accounts.identify import TooManyAttempts
from mainstay.repository.push import PushContext
from mainstay.repository.streams import ByteSink, ByteSource
from support.asgi import Client, Reply, ask, basic
from support.fake_gate import FakeGate

pytestmark = pytest.mark.timeout(30)

ADA = basic("ada", "ada-secret")
EVE = basic("eve", "eve-secret")
OPEN, PRIVATE = "/world/open.git", "/ada/engine.git"
UPLOAD_REQUEST = ("content-type", "application/x-git-upload-pack-request")
RECEIVE_REQUEST = ("content-type", "application/x-git-receive-pack-request")


def refs(path: str, service: str = "git-upload-pack") -> str:
    return f"{path}/info/refs?service={service}"


@dataclass
class NotingService:
    """Echoes the body; `during` runs first, and may raise or wait."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    contexts: list[PushContext] = field(default_factory=list)
    during: Callable[[ByteSink], Awaitable[None]] | None = None
    cancelled: int = 0

    def look(self, repository_id: int) -> None:
        """There are no refs to look at."""

    look_at_once = look

    async def advertise(
        self, repository_id: int, service: Service, *, version: int, sink: ByteSink, seen: None
    ) -> None:
        self.calls.append(("advertise", repository_id, service, version))
        await self._work(sink)
        await sink.write(b"0004refs")

    async def upload_pack(
        self,
        repository_id: int,
        *,
        version: int,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        seen: None,
    ) -> None:
        assert stateless
        self.calls.append(("upload_pack", repository_id, version))
        await self._echo(source, sink)

    async def receive_pack(
        self,
        repository_id: int,
        *,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        rules: PushRules,
        context: PushContext,
        seen: None,
    ) -> None:
        assert stateless
        self.calls.append(("receive_pack", repository_id, rules.actor.label))
        self.contexts.append(context)
        await self._echo(source, sink)

    async def _echo(self, source: ByteSource, sink: ByteSink) -> None:
        while piece := await source.read():
            await sink.write(piece)
        await self._work(sink)

    async def _work(self, sink: ByteSink) -> None:
        try:
            if self.during:
                await self.during(sink)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@dataclass
class Door:
    service: NotingService = field(default_factory=NotingService)
    gate: FakeGate = field(default_factory=FakeGate)
    settings: GitHttpSettings = field(default_factory=GitHttpSettings)

    def __post_init__(self) -> None:
        self.application = GitHttp(
            service=self.service,
            gate=self.gate,
            settings=self.settings,
            clock=SYSTEM,
            clone_url=lambda path: f"https://git.test/{path}.git",
        )

    def ask(self, method: str, address: str, *headers: tuple[str, str], pieces: Any = (b"",)) -> Reply:
        return asyncio.run(ask(self.application, method, address, *headers, pieces=pieces))


@pytest.fixture
def door() -> Any:
    door = Door()
    yield door
    door.application.close()


def test_an_advertisement_is_framed_and_not_cached(door: Door) -> None:
    reply = door.ask("GET", refs(OPEN))
    assert reply.status == 200
    assert reply.body == b"001e# service=git-upload-pack\n00000004refs"
    assert reply.headers["content-type"] == "application/x-git-upload-pack-advertisement"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.headers["cache-control"] == "no-cache, max-age=0, must-revalidate"
    assert reply.headers["pragma"] == "no-cache"
    assert reply.headers["expires"] == "Fri, 01 Jan 1980 00:00:00 GMT"


def test_head_is_get_without_its_body(door: Door) -> None:
    reply = door.ask("HEAD", refs(OPEN))
    assert (reply.status, reply.body, reply.completed) == (200, b"", True)
    assert reply.headers["content-length"] == "42"


@pytest.mark.parametrize(
    ("header", "service", "version"),
    [
        ("version=2", "git-upload-pack", 2),
        ("foo:version=2", "git-upload-pack", 2),
        ("version=1", "git-upload-pack", 0),
        ("version=22", "git-upload-pack", 0),
        ("version=2", "git-receive-pack", 0),
    ],
)
def test_only_a_fetch_may_choose_version_2(door: Door, header: str, service: str, version: int) -> None:
    path = OPEN if service == "git-upload-pack" else PRIVATE
    door.ask("GET", refs(path, service), ("git-protocol", header), ADA)
    assert door.service.calls == [("advertise", 1, Service(service), version)]


@pytest.mark.parametrize("path", [PRIVATE, "/ada/missing.git", "/nobody/nothing.git"])
@pytest.mark.parametrize("service", list(Service))
def test_strangers_are_asked_to_sign_in_whether_it_exists_or_not(door: Door, path: str, service: str) -> None:
    reply = door.ask("GET", refs(path, service))
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == 'Basic realm="Mainstay", charset="UTF-8"'
    assert reply.text == "sign in to see whether there is such a repository\n"


def test_wrong_credentials_are_401_even_on_a_public_project(door: Door) -> None:
    reply = door.ask("GET", refs(OPEN), basic("ada", "wrong"))
    assert reply.status == 401
    assert "www-authenticate" in reply.headers
    assert door.service.calls == []


def test_who_may_not_know_hears_not_found(door: Door) -> None:
    private, missing = door.ask("GET", refs(PRIVATE), EVE), door.ask("GET", refs("/ada/none.git"), EVE)
    assert (private.status, private.text) == (404, "repository not found\n")
    assert (missing.status, missing.text) == (404, "repository not found\n")


def test_who_may_know_but_not_push_hears_why(door: Door) -> None:
    reply = door.ask("GET", refs(OPEN, "git-receive-pack"), EVE)
    assert (reply.status, reply.text) == (403, "you are not allowed to push code to this project\n")


def test_a_bearer_token_is_as_good_as_basic(door: Door) -> None:
    assert door.ask("GET", refs(PRIVATE), ("authorization", "Bearer ada-secret")).status == 200


def test_every_service_is_guarded_at_every_endpoint_for_everybody(door: Door) -> None:
    """Service confusion: whatever the combination, nothing is served that its own rule would refuse."""
    bodies = {"git-upload-pack": UPLOAD_REQUEST, "git-receive-pack": RECEIVE_REQUEST}
    for service in Service:
        for who in ([], [EVE]):
            for path in (PRIVATE, OPEN):
                may = path == OPEN and service is Service.UPLOAD_PACK
                got = door.ask("GET", refs(path, service), *who)
                posted = door.ask("POST", f"{path}/{service}", bodies[service], *who, pieces=[b"0032want"])
                assert (got.status == 200) is may, (service, who, path)
                assert (posted.status == 200) is may, (service, who, path)
    assert {call[0] for call in door.service.calls} == {"advertise", "upload_pack"}


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("POST", refs(OPEN), "GET, HEAD"),
        ("DELETE", refs(OPEN), "GET, HEAD"),
        ("GET", f"{OPEN}/git-upload-pack", "POST"),
        ("HEAD", f"{PRIVATE}/git-receive-pack", "POST"),
    ],
)
def test_a_wrong_method_names_the_right_one(door: Door, method: str, address: str, allowed: str) -> None:
    reply = door.ask(method, address)
    assert (reply.status, reply.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded", RECEIVE_REQUEST[1]])
def test_a_post_must_say_what_it_is(door: Door, content_type: str) -> None:
    reply = door.ask("POST", f"{OPEN}/git-upload-pack", ("content-type", content_type))
    assert reply.status == 415
    assert door.service.calls == []


@pytest.mark.parametrize("address", [f"{OPEN}/info/refs", refs(OPEN, "git-upload-archive")])
def test_dumb_and_unknown_services_are_forbidden(door: Door, address: str) -> None:
    assert door.ask("GET", address, ADA).status == 403


def test_a_fetch_streams_both_ways(door: Door) -> None:
    reply = door.ask("POST", f"{OPEN}/git-upload-pack", UPLOAD_REQUEST, pieces=[b"want ", b"this", b""])
    assert (reply.status, reply.body) == (200, b"want this")
    assert reply.headers["content-type"] == "application/x-git-upload-pack-result"
    assert "content-length" not in reply.headers


def test_a_gzip_body_reaches_the_service_unpacked(door: Door) -> None:
    packed = gzip.compress(b"want this")
    reply = door.ask(
        "POST",
        f"{PRIVATE}/git-receive-pack",
        RECEIVE_REQUEST,
        ADA,
        ("content-encoding", "gzip"),
        pieces=[packed[:5], packed[5:]],
    )
    assert (reply.status, reply.body) == (200, b"want this")


def test_truncated_gzip_is_a_bad_request(door: Door) -> None:
    reply = door.ask(
        "POST",
        f"{OPEN}/git-upload-pack",
        UPLOAD_REQUEST,
        ("content-encoding", "gzip"),
        pieces=[gzip.compress(b"want this")[:11]],
    )
    assert reply.status == 400
    assert "ends too early" in reply.text


def test_an_unknown_encoding_is_415(door: Door) -> None:
    reply = door.ask("POST", f"{OPEN}/git-upload-pack", UPLOAD_REQUEST, ("content-encoding", "br"))
    assert reply.status == 415


def test_a_body_that_is_too_large_is_413_by_its_length_and_by_its_bytes() -> None:
    door = Door(settings=GitHttpSettings(fetch_request_bytes_max=10))
    address = f"{OPEN}/git-upload-pack"
    announced = door.ask("POST", address, UPLOAD_REQUEST, ("content-length", "11"), pieces=[b"x" * 11])
    assert (announced.status, door.service.calls) == (413, [])
    assert door.ask("POST", address, UPLOAD_REQUEST, pieces=[b"x" * 11]).status == 413
    assert door.ask("POST", address, UPLOAD_REQUEST, pieces=[b"x" * 10]).status == 200


def test_a_silent_client_is_answered_408_and_the_connection_ends() -> None:
    class Silent(Client):
        async def receive(self) -> Any:
            await asyncio.Event().wait()

    async def request() -> Reply:
        door = Door(settings=GitHttpSettings(idle_s_max=0.01))
        return await Silent().request(door.application, "POST", f"{OPEN}/git-upload-pack", UPLOAD_REQUEST)

    reply = asyncio.run(request())
    assert reply.status == 408
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize(("who", "status"), [([ADA], 200), ([], 401), ([EVE], 404)])
def test_the_probe_before_a_large_push_only_asks(door: Door, who: Any, status: int) -> None:
    reply = door.ask(
        "POST",
        f"{PRIVATE}/git-receive-pack",
        RECEIVE_REQUEST,
        ("content-length", "4"),
        *who,
        pieces=[b"0000"],
    )
    assert reply.status == status
    assert status != 200 or (reply.body, reply.headers["content-length"]) == (b"", "0")
    assert door.service.calls == []


def test_four_other_bytes_are_no_request(door: Door) -> None:
    reply = door.ask(
        "POST", f"{PRIVATE}/git-receive-pack", RECEIVE_REQUEST, ("content-length", "4"), ADA, pieces=[b"0004"]
    )
    assert reply.status == 400


def test_a_push_to_a_new_path_makes_the_project_at_the_last_moment(door: Door) -> None:
    new = "/ada/fresh.git"
    advertised = door.ask("GET", refs(new, "git-receive-pack"), ADA)
    assert advertised.status == 200
    assert b"capabilities^{}" in advertised.body
    probe = (RECEIVE_REQUEST, ADA, ("content-length", "4"))
    assert door.ask("POST", f"{new}/git-receive-pack", *probe, pieces=[b"0000"]).status == 200
    assert door.gate.created == []
    assert door.ask("POST", f"{new}/git-receive-pack", RECEIVE_REQUEST, ADA, pieces=[b"push"]).body == b"push"
    assert door.gate.created == ["ada/fresh"]
    assert door.service.contexts[0].messages == [
        "The private project ada/fresh was created.",
        "Clone it from https://git.test/ada/fresh.git",
    ]
    door.ask("POST", f"{new}/git-receive-pack", RECEIVE_REQUEST, ADA, pieces=[b"push"])
    assert list(door.service.contexts[1].messages) == []


def test_a_push_elsewhere_makes_nothing(door: Door) -> None:
    for who in ([], [EVE]):
        door.ask("GET", refs("/ada/fresh.git", "git-receive-pack"), *who)
        door.ask("POST", "/ada/fresh.git/git-receive-pack", RECEIVE_REQUEST, *who, pieces=[b"push"])
    assert door.gate.created == []


def test_the_service_knows_where_a_push_came_from(door: Door) -> None:
    reply = door.ask(
        "POST",
        f"{PRIVATE}/git-receive-pack",
        RECEIVE_REQUEST,
        ADA,
        ("x-request-id", "abc-1"),
        pieces=[b"push"],
    )
    context = door.service.contexts[0]
    assert (context.address, context.transport, context.request_id) == ("192.0.2.7", "http", "abc-1")
    assert reply.headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize("value", ["a b", "x" * 65, "é", "a\x1b[0m"])
def test_a_request_id_that_could_spoil_a_log_is_replaced(door: Door, value: str) -> None:
    reply = door.ask("GET", refs(OPEN), ("x-request-id", value))
    assert len(reply.headers["x-request-id"]) == 26


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (Conflict("the state moved"), 409, None),
        (Unavailable("the database is away", retry_after_s=7), 503, "7"),
        (TooManyAttempts("too many failed sign-ins", retry_after_s=60), 429, "60"),
    ],
)
def test_a_family_of_errors_has_a_status(
    door: Door, error: Any, status: int, retry_after: str | None
) -> None:
    door.gate.broken = error
    reply = door.ask("GET", refs(OPEN))
    assert (reply.status, reply.text) == (status, f"{error}\n")
    assert reply.headers.get("retry-after") == retry_after


def test_a_bug_is_told_by_its_request_id_only(door: Door) -> None:
    door.gate.broken = RuntimeError("secret detail")
    reply = door.ask("GET", refs(OPEN), ("x-request-id", "abc-1"))
    assert (reply.status, reply.text) == (500, "internal error, request id abc-1\n")


def test_an_unknown_outcome_is_never_a_complete_answer(door: Door) -> None:
    async def lose(sink: ByteSink) -> None:
        raise OutcomeUnknown("commit sent, no answer")

    door.service.during = lose
    before = door.ask("POST", f"{PRIVATE}/git-receive-pack", RECEIVE_REQUEST, ADA)
    after = door.ask("POST", f"{PRIVATE}/git-receive-pack", RECEIVE_REQUEST, ADA, pieces=[b"push"])
    assert (before.status, before.body, before.completed) == (200, b"", False)
    assert (after.status, after.body, after.completed) == (200, b"push", False)


def test_a_bug_after_the_first_byte_cuts_the_answer(door: Door) -> None:
    async def fail(sink: ByteSink) -> None:
        raise RuntimeError("too late")

    door.service.during = fail
    reply = door.ask("POST", f"{OPEN}/git-upload-pack", UPLOAD_REQUEST, pieces=[b"want"])
    assert (reply.status, reply.body, reply.completed) == (200, b"want", False)


def test_a_client_that_hangs_up_stops_the_work() -> None:
    async def scenario() -> Door:
        door, client, working = Door(), Client([b"want"]), asyncio.Event()

        async def endless(sink: ByteSink) -> None:
            working.set()
            await asyncio.Event().wait()

        door.service.during = endless
        request = asyncio.create_task(
            client.request(door.application, "POST", f"{OPEN}/git-upload-pack", UPLOAD_REQUEST)
        )
        await working.wait()
        client.hang_up.set()
        reply = await asyncio.wait_for(request, 5)
        assert not reply.completed
        return door

    assert asyncio.run(scenario()).service.cancelled == 1


def test_the_limit_of_somebody_else_is_no_client_that_went_away(door: Door) -> None:
    async def run_out_of_time(sink: ByteSink) -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    door.service.during = run_out_of_time
    reply = door.ask("POST", f"{OPEN}/git-upload-pack", UPLOAD_REQUEST)
    assert reply.status == 500


def test_a_request_that_is_cancelled_takes_its_work_along() -> None:
    async def scenario() -> Door:
        door, working = Door(), asyncio.Event()

        async def endless(sink: ByteSink) -> None:
            working.set()
            await asyncio.Event().wait()

        door.service.during = endless
        client = Client([b"want"])
        request = asyncio.create_task(
            client.request(door.application, "POST", f"{OPEN}/git-upload-pack", UPLOAD_REQUEST)
        )
        await working.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nobody is left listening"
        return door

    assert asyncio.run(scenario()).service.cancelled == 1


def test_a_client_that_takes_nothing_is_cut() -> None:
    class Stuck(Client):
        async def send(self, message: Any) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()
            await super().send(message)

    async def scenario() -> Reply:
        door = Door(settings=GitHttpSettings(idle_s_max=0.02))
        client = Stuck([b"want"])
        return await asyncio.wait_for(
            client.request(door.application, "POST", f"{OPEN}/git-upload-pack", UPLOAD_REQUEST), 5
        )

    assert not asyncio.run(scenario()).completed


def test_beyond_the_limit_one_waits_and_beyond_the_line_one_is_sent_away() -> None:
    async def scenario() -> list[Reply]:
        door = Door(settings=GitHttpSettings(requests_max=1, waiting_max=1, waiting_s_max=5))
        inside, release = asyncio.Event(), asyncio.Event()

        async def hold(sink: ByteSink) -> None:
            inside.set()
            await release.wait()

        door.service.during = hold
        first = asyncio.create_task(ask(door.application, "GET", refs(OPEN)))
        await inside.wait()
        second = asyncio.create_task(ask(door.application, "GET", refs(OPEN)))
        await asyncio.sleep(0)
        third = await ask(door.application, "GET", refs(OPEN))
        release.set()
        return [await first, await second, third]

    first, second, third = asyncio.run(scenario())
    assert (first.status, second.status, third.status) == (200, 200, 503)
    assert third.headers["retry-after"] == "10"


def test_who_waits_too_long_is_sent_away() -> None:
    async def scenario() -> Reply:
        door = Door(settings=GitHttpSettings(requests_max=1, waiting_s_max=0.01))
        inside, release = asyncio.Event(), asyncio.Event()

        async def hold(sink: ByteSink) -> None:
            inside.set()
            await release.wait()

        door.service.during = hold
        first = asyncio.create_task(ask(door.application, "GET", refs(OPEN)))
        await inside.wait()
        second = await ask(door.application, "GET", refs(OPEN))
        release.set()
        await first
        return second

    assert asyncio.run(scenario()).status == 503


def test_a_long_advertisement_is_sent_in_pieces() -> None:
    async def many(sink: ByteSink) -> None:
        for _ in range(10):
            await sink.write(b"x" * 50_000)

    door = Door(service=NotingService(during=many))
    reply = door.ask("GET", refs(OPEN))
    assert len(reply.body) == 34 + 500_000 + 8
    assert "content-length" not in reply.headers
