"""What a replica passes on over HTTP, against a primary that behaves, breaks off, freezes or is not there."""

import asyncio
import gzip
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from mainstay.cluster.sites.identity import server_name_of
from mainstay.doors.githttp.passing import Passage, pass_on
from mainstay.provision.postgresql import Credentials
from mainstay.repository.forwarding.line import ALIVE, LOOK, Limits, Line
from mainstay.repository.forwarding.whereabouts import Primary, PrimaryAway
from support.asgi import Client, Reply
from support.managed import SiteAuthority
from support.ports import free_port

SITE = "01M7ZAX3369XHCGMJ0YFWSSRWV"
OTHER = "01M7ZBCXXC42D2R1SN4F360E8P"
QUICK = Limits(connect_s_max=1.0, look_s_max=1.0, silence_s=0.3, alive_s_max=0.3, away_s=0.0)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class World:
    """A primary that does what `handler` says, and a line to it."""

    authority: SiteAuthority
    handler: Handler
    is_frozen: bool = False
    port: int = 0
    line: Line = field(init=False)

    def __post_init__(self) -> None:
        credentials = self.authority.credentials("berlin", made_out_to=server_name_of(OTHER))
        context = _client_context(credentials)
        self.line = Line(lambda: context, limits=QUICK)

    @property
    def primary(self) -> Primary:
        return Primary(SITE, "paris", "127.0.0.1", self.port)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.is_frozen:
            await asyncio.sleep(60)
        if request.path == ALIVE:
            return web.json_response({})
        return await self.handler(request)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = web.Server(self.handle, auto_decompress=False)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        credentials = self.authority.credentials("paris", made_out_to=server_name_of(SITE))
        context = _server_context(credentials)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await self.line.close()
            await runner.cleanup()

    async def send(
        self, method: str, address: str, *headers: tuple[str, str], client: Client | None = None
    ) -> Reply:
        client = client or Client()

        async def application(scope: object, receive: object, send: object) -> None:
            await pass_on(self.line, self.primary, Passage(scope, receive, send))  # type: ignore[arg-type]

        return await client.request(application, method, address, *headers)


def _client_context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(credentials.authority))
    context.load_cert_chain(credentials.certificate, credentials.key)
    return context


def _server_context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(credentials.certificate, credentials.key)
    context.load_verify_locations(credentials.authority)
    return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> SiteAuthority:
    return SiteAuthority(tmp_path_factory.mktemp("sites") / "tls")


def run(authority: SiteAuthority, handler: Handler, test: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World(authority, handler)
        async with asyncio.timeout(60), world.running():
            await test(world)

    asyncio.run(whole())


async def eventually(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - of another task, which tells nobody
        await asyncio.sleep(0.01)


async def _echo(request: web.Request) -> web.Response:
    """Everything that arrived, as the answer."""
    body = await request.content.read()
    told = {name.lower(): value for name, value in request.headers.items()}
    text = f"{request.method} {request.raw_path}"
    return web.Response(
        status=207,
        body=body,
        headers={"X-Asked": text, "X-Told": json.dumps(told), "WWW-Authenticate": 'Basic realm="x"'},
    )


def test_a_request_arrives_and_is_answered_as_it_is(authority: SiteAuthority) -> None:
    async def test(world: World) -> None:
        body = gzip.compress(b"0000" * 1000)
        client = Client([body[:10], body[10:]])
        address = "/ada%2Fx/../engine.git/git-upload-pack?a=%zz&b"
        headers = (("content-encoding", "gzip"), ("content-length", str(len(body))), ("cookie", "a=b"))
        reply = await world.send("POST", address, *headers, client=client)
        assert (reply.status, reply.body, reply.completed) == (207, body, True)
        assert reply.headers["www-authenticate"] == 'Basic realm="x"'
        assert reply.headers["x-asked"] == f"POST {address}"
        told = json.loads(reply.headers["x-told"])
        assert told["x-forwarded-for"] == "192.0.2.7"
        assert told["x-mainstay-hops"] == "1"
        assert told["content-length"] == str(len(body))
        assert (told["content-encoding"], told["cookie"]) == ("gzip", "a=b")
        assert "accept-encoding" not in told
        assert "user-agent" not in told

    run(authority, _echo, test)


def test_a_body_of_unknown_length_streams_both_ways_at_once(authority: SiteAuthority) -> None:
    """The primary answers each piece before the next is sent: nobody waits for a whole body."""

    async def one_by_one(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        async for piece in request.content.iter_any():
            await answer.write(piece.upper())
        return answer

    async def test(world: World) -> None:
        client = Client([])
        seen: list[bytes] = []
        ended = asyncio.Event()

        async def receive() -> dict[str, object]:
            await eventually(lambda: client.reply.body == b"".join(seen).upper())
            if len(seen) == 5 and not ended.is_set():
                ended.set()
                return {"type": "http.request", "body": b"", "more_body": False}
            if ended.is_set():
                await client.hang_up.wait()
            seen.append(b"piece %d," % len(seen))
            return {"type": "http.request", "body": seen[-1], "more_body": True}

        client.receive = receive  # type: ignore[assignment, method-assign]
        reply = await world.send("POST", "/x.git/y", ("transfer-encoding", "chunked"), client=client)
        assert reply.body == b"PIECE 0,PIECE 1,PIECE 2,PIECE 3,PIECE 4,"
        assert reply.completed

    run(authority, one_by_one, test)


def test_a_client_that_waits_to_be_asked_is_not_asked_for_a_refused_push(authority: SiteAuthority) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401, text="sign in\n")

    async def test(world: World) -> None:
        client = Client([])
        asked: list[bool] = []
        after = client.receive

        async def receive() -> object:
            asked.append(True)
            return await after()

        client.receive = receive  # type: ignore[assignment, method-assign]
        headers = (("expect", "100-continue"), ("content-length", "1000000"))
        reply = await world.send("POST", "/x.git/git-receive-pack", *headers, client=client)
        assert (reply.status, reply.text, reply.headers["connection"]) == (401, "sign in\n", "close")
        assert asked == []

    async def no_continue(request: web.Request) -> web.StreamResponse:
        return await refuse(request)

    run(authority, no_continue, test)


def test_an_answer_that_breaks_off_breaks_off_here(authority: SiteAuthority) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def test(world: World) -> None:
        reply = await world.send("GET", "/x.git/info/refs")
        assert (reply.status, reply.completed) == (200, False)

    run(authority, cut, test)


def test_a_push_that_was_half_sent_is_not_said_to_have_failed(authority: SiteAuthority) -> None:
    async def vanish(request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def test(world: World) -> None:
        reply = await world.send("POST", "/x.git/y", ("content-length", "4"), client=Client([b"pack"]))
        assert (reply.status, "not known" in reply.text) == (502, True)

    run(authority, vanish, test)


def test_a_primary_that_is_not_there_is_noticed_at_once(authority: SiteAuthority) -> None:
    async def test(world: World) -> None:
        world.port = free_port()
        for address in ("/x.git/info/refs", "/x.git/git-receive-pack"):
            with pytest.raises(PrimaryAway):
                await world.send("POST", address, ("content-length", "4"), client=Client([b"pack"]))
        with pytest.raises(PrimaryAway):
            await world.line.look(world.primary, {})

    run(authority, _echo, test)


def test_another_server_at_its_address_is_not_the_primary(authority: SiteAuthority) -> None:
    async def test(world: World) -> None:
        stranger = Primary(OTHER, "berlin", "127.0.0.1", world.port)
        with pytest.raises(PrimaryAway, match=r"certificate|hostname|SSL"):
            await world.line.look(stranger, {})

    run(authority, _echo, test)


def test_a_frozen_primary_is_given_up_and_a_slow_one_is_not(authority: SiteAuthority) -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(1.5)
        return web.Response(text="slow\n")

    async def test(world: World) -> None:
        assert (await world.send("GET", "/x.git/info/refs")).text == "slow\n"
        world.is_frozen = True
        started_s = time.monotonic()
        with pytest.raises(PrimaryAway):
            await world.send("GET", "/x.git/info/refs")
        assert time.monotonic() - started_s < 10

    run(authority, slow, test)


def test_a_client_that_leaves_is_noticed_at_the_primary(authority: SiteAuthority) -> None:
    left = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b"x" * 1000)
                await asyncio.sleep(0.02)
        except (ConnectionError, asyncio.CancelledError):
            left.set()
            raise

    async def test(world: World) -> None:
        client = Client()
        sending = asyncio.create_task(world.send("GET", "/x.git/info/refs", client=client))
        await eventually(lambda: client.reply.body != b"")
        client.hang_up.set()
        await sending
        assert not client.reply.completed
        await asyncio.wait_for(left.wait(), 30)

    run(authority, wait, test)


def test_what_the_primary_says_about_a_look_is_read_whole(authority: SiteAuthority) -> None:
    async def look(request: web.Request) -> web.Response:
        assert request.path == LOOK
        return web.json_response({"version": (await request.json())["version"]})

    async def test(world: World) -> None:
        said = await world.line.look(world.primary, {"version": 7})
        assert said.whole("version", least=0, most=10) == 7

    run(authority, look, test)
