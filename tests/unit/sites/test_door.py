"""The door for other sites without a socket: its limits, and what it does when somebody is slow or gone."""

import asyncio
import json
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from mainstay.cluster.sites.passes import SiteRefused
from mainstay.cluster.sites.positions import Acknowledged
from mainstay.doors.sites.answers import PeerStuck
from mainstay.doors.sites.app import Desk, SitesDoor, claims
from mainstay.doors.sites.objects import ObjectChanged, ObjectsForSites
from mainstay.doors.sites.settings import SitesSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.repository.threads import Threads
from mainstay.storage.feed.log import Feed
from mainstay.storage.feed.store import FedStore
from mainstay.storage.objects.memory import MemoryStore
from support.asgi import Client, Reply

SITE = new_ulid()
KEY = f"repositories/{new_ulid()}/packs/{new_ulid()}.pack"
ROOT = "/-/sites/v1/"


class House:
    """A primary behind its door."""

    def __init__(self, directory: Path, **limits: Any) -> None:
        self.feed = Feed(directory / "feed")
        self.identity = self.feed.begin()
        self.inner = MemoryStore()
        self.objects = FedStore(self.inner, self.feed, clock=SYSTEM)
        self.threads = Threads(4)
        self.said: list[Acknowledged] = []
        self.is_draining = self.is_paused = self.is_removed = False
        settings = SitesSettings(**limits)
        self.door = SitesDoor(
            Desk(
                facts=lambda site: {"you": site},
                is_paused=lambda _: self.is_paused,
                hurries=lambda _: True,
                still_in=self._still_in,
                acknowledge=lambda _, said: self.said.append(said),
                renew=lambda site: {"certificate": site},
                promise=lambda site, epoch: {"is_allowed": site == SITE, "because": f"epoch {epoch}"},
            ),
            ObjectsForSites(self.objects, settings, self.threads),
            self.feed,
            self.threads,
            clock=SYSTEM,
            settings=settings,
            is_draining=lambda: self.is_draining,
        )

    def _still_in(self, _: object) -> None:
        if self.is_removed:
            raise SiteRefused("the site was removed")

    async def app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        assert claims(scope)
        scope["extensions"] = {"mainstay.site": SITE}
        await self.door(scope, receive, send)

    async def ask(self, path: str, *headers: tuple[str, str]) -> Reply:
        return await Client().request(self.app, "GET", ROOT + path, *headers)

    async def post(self, path: str, body: bytes) -> Reply:
        return await Client([body]).request(self.app, "POST", ROOT + path)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.threads.close()


async def until(holds: Callable[[], bool]) -> None:
    """Within some turns of the loop, each of which takes a thread its time."""
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


def said(reply: Reply) -> str:
    return str(json.loads(reply.body)["message"])


def test_there_are_few_addresses_and_few_methods(house: House) -> None:
    async def run() -> list[int]:
        paths = ("", "nothing", "facts/more", "ack", "certificate", "bundle", "objects/")
        replies = [await house.ask(path) for path in paths]
        replies += [await house.post(path, b"{}") for path in ("facts", "feed", "objects")]
        return [reply.status for reply in replies]

    assert set(asyncio.run(run())) == {404}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"x" * 100_000, b"[" * 50_000])
def test_another_body_is_no_acknowledgement(house: House, body: bytes) -> None:
    reply = asyncio.run(house.post("ack", body))
    assert reply.status == 400
    assert house.said == []


def test_an_acknowledgement_is_handed_on_as_it_was_said(house: House) -> None:
    body = json.dumps({"identity": house.identity, "position": 5, "ahead": [[7, 9]], "received_bytes": 3})
    assert asyncio.run(house.post("ack", body.encode())).status == 200
    [found] = house.said
    assert found == Acknowledged(house.identity, 5, ((7, 9),), 3, at_ms=found.at_ms)
    assert abs(found.at_ms - SYSTEM.now_ms()) < 60_000


@pytest.mark.parametrize("body", [b"{}", b'{"keys": []}', b'{"keys": [1]}', b'{"keys": "x"}', b"[]"])
def test_another_body_is_no_bundle(house: House, body: bytes) -> None:
    reply = asyncio.run(house.post("bundle", body))
    assert (reply.status, "1 to 64 keys" in said(reply)) == (400, True)


def test_nobody_waits_longer_than_is_allowed_and_more_are_sent_away(tmp_path: Path) -> None:
    house = House(tmp_path, polls_max=1, wait_s_max=1)
    address = f"feed?identity={house.identity}&after=0&wait_s=9999"

    async def run() -> tuple[Reply, Reply, Reply]:
        first = asyncio.create_task(house.ask(address))
        await until(lambda: not house.door._rooms["feed"]._free)
        second = await house.ask(address)
        return await first, second, await house.ask(f"{address[:-4]}0")

    first, second, third = asyncio.run(run())
    house.threads.close()
    assert (first.status, first.body, first.headers["x-mainstay-position"]) == (200, b"", "0")
    assert (second.status, second.headers["retry-after"]) == (503, "1")
    assert third.status == 200, "the place is free again"


@pytest.mark.parametrize("change", ["is_draining", "is_removed"])
def test_who_waits_hears_of_the_end(house: House, change: str) -> None:
    async def run() -> Reply:
        waiting = asyncio.create_task(house.ask(f"feed?identity={house.identity}&after=0&wait_s=20"))
        await until(lambda: house.door._changes._next is not None)
        setattr(house, change, True)
        house.door.close()
        return await asyncio.wait_for(waiting, 15)

    reply = asyncio.run(run())
    assert reply.status == (200 if change == "is_draining" else 403)


def test_an_object_that_shrinks_is_cut_and_not_finished(house: House) -> None:
    house.objects.put_bytes(KEY, b"x" * 3_000_000)
    whole = house.inner.get_bytes

    def shrunk(key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return whole(key, start=start, length=length) if start < 2_000_000 else b""

    house.inner.get_bytes = shrunk  # type: ignore[method-assign]
    client = Client()
    with pytest.raises(ObjectChanged):
        asyncio.run(client.request(house.app, "GET", f"{ROOT}objects/{KEY}"))
    assert client.reply.status == 200
    assert not client.reply.completed


def test_a_store_that_is_away_is_said_before_and_cut_in_the_middle(house: House) -> None:
    house.objects.put_bytes(KEY, b"x" * 3_000_000)
    whole = house.inner.get_bytes

    def away_from(first: int) -> Callable[..., bytes]:
        def get(key: str, *, start: int = 0, length: int | None = None) -> bytes:
            if start >= first:
                raise Unavailable("the disk is away")
            return whole(key, start=start, length=length)

        return get

    house.inner.get_bytes = away_from(0)  # type: ignore[method-assign]
    reply = asyncio.run(house.ask(f"objects/{KEY}"))
    assert (reply.status, said(reply)) == (503, "the disk is away")
    house.inner.get_bytes = away_from(1_500_000)  # type: ignore[method-assign]
    client = Client()
    with pytest.raises(Unavailable):
        asyncio.run(client.request(house.app, "GET", f"{ROOT}objects/{KEY}"))
    assert not client.reply.completed


def test_a_site_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    house = House(tmp_path, silence_s_max=0.05)
    house.objects.put_bytes(KEY, b"content")
    stuck = asyncio.Event

    class Stuck(Client):
        async def send(self, message: MutableMapping[str, Any]) -> None:
            await stuck().wait()

    with pytest.raises(PeerStuck):
        asyncio.run(Stuck().request(house.app, "GET", f"{ROOT}objects/{KEY}"))
    assert house.door._rooms["objects"]._free == SitesSettings().objects_max
    house.threads.close()


def test_a_paused_site_is_told_and_a_new_certificate_is_given(house: House) -> None:
    house.is_paused = True
    reply = asyncio.run(house.ask(f"feed?identity={house.identity}&after=0"))
    assert (reply.status, "paused" in said(reply)) == (409, True)
    given = asyncio.run(house.post("certificate", b"{}"))
    assert json.loads(given.body) == {"certificate": SITE}
    assert given.headers["cache-control"] == "no-store"
