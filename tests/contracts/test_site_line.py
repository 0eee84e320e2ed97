"""The line between sites over real TLS on loopback: who comes in, and what arrives."""

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mainstay.boot.joining import NotLetIn, ask
from mainstay.cluster.authority import authority_of
from mainstay.cluster.joining import JoinToken, parse_token
from mainstay.cluster.keyring import KeyFile, KeyRing, new_key, write_keys
from mainstay.cluster.secrets import Secrets, found
from mainstay.cluster.sites import registry
from mainstay.cluster.sites.admission import said_by
from mainstay.cluster.sites.followers import SiteFollowers
from mainstay.cluster.sites.identity import SiteIdentity, server_name_of
from mainstay.cluster.sites.line import Line, LineBroken
from mainstay.cluster.sites.passes import SiteRefused
from mainstay.cluster.sites.positions import Acknowledged, Positions
from mainstay.cluster.sites.puller import Puller
from mainstay.cluster.sites.registry import Site
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Conflict, Invalid, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage.feed.log import FeedGone
from mainstay.storage.objects import NoSuchObject
from mainstay.storage.objects.directory import DirectoryStore
from support.databases import migrated_sqlite
from support.sites import Primary, joined, serving

UID = new_ulid()


def pack_key() -> str:
    return f"repositories/{UID}/packs/{new_ulid()}.pack"


@pytest.fixture(scope="module")
def primary(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Primary]:
    primary = Primary(tmp_path_factory.mktemp("site") / "berlin", sqlite_template)
    with serving(primary):
        yield primary


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / f"site-{new_ulid().lower()}"


@pytest.fixture
def site(primary: Primary, data: Path) -> Site:
    return joined(primary, data)


@pytest.fixture
def line(primary: Primary, site: Site, data: Path) -> Iterator[Line]:
    line = primary.line(data)
    yield line
    line.close()


def asked(primary: Primary, data: Path | None, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """One request, by hand; without `data` nobody says who he is."""
    authority = str(primary.data / "tls" / "ca.pem")
    context = ssl.create_default_context(cafile=authority)
    if data:
        context.load_cert_chain(SiteIdentity(data).certificate_file)
    host, _, port = primary.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 20) as bare,
        context.wrap_socket(bare, server_hostname=server_name_of(primary.site.id)) as tls,
    ):
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n".encode())
        answer = http.client.HTTPResponse(tls)  # type: ignore[arg-type]
        answer.begin()
        body = answer.read()
    return answer.status, json.loads(body) if body.startswith(b"{") else {"text": body.decode()}


# Who comes in
def test_who_shows_nothing_may_only_join(primary: Primary) -> None:
    for path in ("/-/sites/v1/facts", "/-/health", "/group/project.git/info/refs"):
        status, said = asked(primary, None, path)
        assert (status, "only other sites" in said["message"]) == (401, True)
    assert asked(primary, None, "/-/join")[0] == 405, "which is asked by POST"


def test_a_token_of_a_node_lets_no_site_in(primary: Primary) -> None:
    node = parse_token(primary.token("node"))
    with pytest.raises(NotLetIn, match="replica token"):
        ask(f"https://{primary.address}/-/join", node, site=said_by(Site(id=new_ulid(), name="rome")))
    replica = parse_token(primary.token(), "replica")
    with pytest.raises((NotLetIn, Unavailable)):
        ask(f"https://{primary.address}/-/join", replica)
    unknown = JoinToken(new_ulid(), bytes(32), "replica")
    with pytest.raises(NotLetIn):
        ask(f"https://{primary.address}/-/join", unknown, site=said_by(Site(id=new_ulid(), name="rome")))


def test_facts_say_who_is_there(primary: Primary, line: Line, site: Site) -> None:
    facts = line.facts()
    assert (facts["site"], facts["name"], facts["role"]) == (primary.site.id, "berlin", "primary")
    assert facts["epoch"]["epoch"] == facts["highest"]["epoch"] == 1
    assert facts["feed"]["identity"] == primary.feed.identity
    assert facts["you"] == {"name": site.name, "state": "active", "mode": "async", "kind": "replica"}
    assert facts["database"] is None, "SQLite has no position"


def test_a_removed_site_is_refused_at_once_on_an_open_line(primary: Primary, line: Line, site: Site) -> None:
    line.facts()
    registry.remove(primary.database, site.id)
    started_s = time.monotonic()
    _until(lambda: _is_refused(line))
    assert time.monotonic() - started_s < 1.5


def test_a_certificate_of_another_authority_is_refused(
    primary: Primary, data: Path, site: Site, sqlite_template: Path, tmp_path: Path
) -> None:
    database = migrated_sqlite(sqlite_template, ":memory:")
    keyring = KeyRing([new_key()])
    found(database, keyring, now_ms=1)
    write_keys(tmp_path, keyring)
    secrets = Secrets(database, KeyFile(tmp_path), SYSTEM)
    foreign = authority_of(secrets, now_ms=SYSTEM.now_ms()).issue_for_site(
        server_name_of(site.id), now_ms=SYSTEM.now_ms()
    )
    ours = SiteIdentity(data)
    authority = ours.authority_file.read_bytes()
    ours.keep(foreign)
    ours.authority_file.write_bytes(authority)
    with pytest.raises((SiteRefused, LineBroken)):
        primary.line(data).facts()
    ours.authority_file.write_bytes(foreign.authority)
    with pytest.raises(LineBroken, match="certificate"):
        primary.line(data).facts()
    database.close()


def test_a_certificate_that_the_list_does_not_have_is_refused(
    primary: Primary, data: Path, site: Site
) -> None:
    """As somebody would make who was removed and kept a copy of the CA."""
    from mainstay.boot.membership import secrets_of

    authority = authority_of(secrets_of(primary.stores), now_ms=SYSTEM.now_ms())
    SiteIdentity(data).keep(authority.issue_for_site(server_name_of(site.id), now_ms=SYSTEM.now_ms()))
    with pytest.raises(SiteRefused, match="not on the list"):
        primary.line(data).facts()


def test_another_site_than_the_one_meant_is_not_asked(primary: Primary, data: Path, site: Site) -> None:
    with pytest.raises(LineBroken, match="certificate"):
        primary.line(data, site_id=new_ulid()).facts()


def test_a_site_gets_new_certificates_over_the_line(primary: Primary, line: Line, data: Path) -> None:
    before = SiteIdentity(data).certificate_file.read_bytes()
    line.renew()
    assert SiteIdentity(data).certificate_file.read_bytes() != before
    again = primary.line(data)
    assert again.facts()["site"] == primary.site.id
    again.close()


def test_what_a_site_forwards_is_believed(primary: Primary, data: Path, site: Site) -> None:
    forwarded = {"X_Forwarded_For": "198.51.100.7", "X_Request_Id": "from-paris"}
    assert asked(primary, data, "/group/project", **forwarded)[1]["text"] == "ordinary"
    seen = primary.seen[-1]
    assert seen["client"][0] == "198.51.100.7"
    assert seen["headers"][b"x-request-id"] == b"from-paris"
    assert seen["extensions"]["mainstay.site"] == site.id


# Objects
@pytest.mark.parametrize("size", [0, 1, 9_999, 10_000, 10_001, 2_500_000])
def test_an_object_arrives_whole(primary: Primary, line: Line, tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    key, source, target = pack_key(), tmp_path / "source", tmp_path / "target"
    source.write_bytes(content[:size])
    primary.objects.put(key, source)
    line._stretch_bytes = 10_000 if size < 100_000 else 1_000_000
    line.download(key, target)
    assert target.read_bytes() == content[:size]
    assert line.size_bytes(key) == size


def test_an_object_that_is_not_there_is_said(line: Line, tmp_path: Path) -> None:
    with pytest.raises(NoSuchObject):
        line.download(pack_key(), tmp_path / "target")
    with pytest.raises(NoSuchObject):
        line.download("something/else", tmp_path / "target")
    assert line.size_bytes(pack_key()) is None


def test_a_download_goes_on_where_it_was(primary: Primary, line: Line, tmp_path: Path) -> None:
    content = bytes(range(250)) * 100
    key, target = pack_key(), tmp_path / "target"
    primary.objects.put_bytes(key, content)
    line._stretch_bytes = 10_000
    target.write_bytes(content[:20_000] + b"torn")
    line.download(key, target)
    assert target.read_bytes() == content
    target.write_bytes(content + b"of another, longer object" * 1000)
    line.download(key, target)
    assert target.read_bytes() == content


def test_small_objects_come_together(primary: Primary, line: Line) -> None:
    contents = {pack_key(): bytes([number]) * (number * 20_000) for number in range(12)}
    for key, content in contents.items():
        primary.objects.put_bytes(key, content)
    large, missing = pack_key(), pack_key()
    primary.objects.put_bytes(large, b"x" * 300_000)
    keys = [large, *contents, missing, "no/class"]
    assert line.bundle(keys) == {**contents, missing: None, "no/class": None}
    assert line.bundle([missing]) == {missing: None}
    for wrong in ([], [missing] * 65):
        with pytest.raises(Invalid, match="bundle"):
            line.bundle(wrong)


@pytest.mark.parametrize("asked_for", ["bytes=10-", "bytes=5-4", "bytes=x", "bytes=0-1,3-4"])
def test_a_range_beyond_the_end_is_refused(primary: Primary, data: Path, site: Site, asked_for: str) -> None:
    key = pack_key()
    primary.objects.put_bytes(key, b"0123456789")
    assert asked(primary, data, f"/-/sites/v1/objects/{key}", Range=asked_for)[0] == 400


def test_ten_thousand_objects_are_listed(primary: Primary, line: Line) -> None:
    uid = new_ulid()
    folder = primary.data / "objects" / "journal" / uid
    folder.mkdir(parents=True)
    for number in range(10_000):
        (folder / f"{number:012d}.json").write_bytes(b"x" * (number % 7))
    (folder / "no-object-of-ours").touch()
    listed = {each.key: each.size_bytes for each in line.listing(f"journal/{uid}/")}
    assert len(listed) == 10_000
    assert listed[f"journal/{uid}/{6:012d}.json"] == 6
    assert list(line.listing("journal/nobody/")) == []
    with pytest.raises(Invalid):
        list(line.listing("../"))


# The feed
def test_the_feed_is_followed_as_it_grows(primary: Primary, line: Line) -> None:
    identity, end = primary.feed.identity, primary.feed.end
    assert line.feed(identity, end, wait_s=0).entries == []
    key = pack_key()
    threading.Timer(0.2, lambda: primary.objects.put_bytes(key, b"new")).start()
    started_s = time.monotonic()
    page = line.feed(identity, end, wait_s=15)
    assert [entry.key for entry in page.entries] == [key]
    assert time.monotonic() - started_s < 10, "nobody waited for the end of the time"
    assert page.position == primary.feed.end
    assert abs(page.now_ms - SYSTEM.now_ms()) < 60_000


def test_a_feed_that_has_begun_anew_is_gone(primary: Primary, line: Line) -> None:
    for identity, after in ((new_ulid(), 0), (primary.feed.identity, primary.feed.end + 1)):
        with pytest.raises(FeedGone):
            line.feed(identity, after, wait_s=0)


def test_what_a_site_acknowledges_is_known_to_other_processes(
    primary: Primary, line: Line, site: Site
) -> None:
    said = Acknowledged(primary.feed.identity, 7, ((9, 12),), received_bytes=5)
    line.acknowledge(said)
    known = Positions(primary.positions.directory).all()[site.id]
    assert (known.position, known.ahead, known.received_bytes) == (7, ((9, 12),), 5)
    assert known.at_ms > 0
    line.acknowledge(Acknowledged("", 0))
    with pytest.raises(Invalid):
        line.acknowledge(Acknowledged("me", 0))
    with pytest.raises(Invalid):
        line.acknowledge(Acknowledged("", 0, ((1, 2),) * 300))
    with pytest.raises(Invalid):
        line.acknowledge(Acknowledged("", -1))


def test_a_paused_site_gets_objects_but_follows_nothing(
    primary: Primary, line: Line, site: Site, tmp_path: Path
) -> None:
    registry.change(primary.database, site.id, state="paused")
    _until(lambda: line.facts()["you"]["state"] == "paused")
    for call in (lambda: line.feed(primary.feed.identity, 0, wait_s=0), lambda: list(line.listing(""))):
        with pytest.raises(Conflict, match="paused"):
            call()
    key = pack_key()
    primary.objects.put_bytes(key, b"wanted by a person")
    line.download(key, tmp_path / "target")
    registry.change(primary.database, site.id, state="active")
    _until(lambda: line.facts()["you"]["state"] == "active")


def test_a_replica_follows_over_the_line(primary: Primary, data: Path, tmp_path: Path) -> None:
    site, line = joined(primary, data, mode="sync"), primary.line(data)
    contents = {pack_key(): b"x" * size for size in (0, 10, 70_000, 3_000_000)}
    for key, content in contents.items():
        primary.objects.put_bytes(key, content)
    store = DirectoryStore(tmp_path / "objects")
    puller = Puller(line, store, tmp_path / "puller", clock=SYSTEM, wants=lambda key: key.startswith("rep"))
    stop = threading.Event()
    thread = threading.Thread(target=puller.run, args=(stop,))
    thread.start()
    try:
        _until(lambda: puller.state.is_complete, within_s=120)
        followers = SiteFollowers(
            primary.objects,
            primary.feed,
            primary.positions,
            waited_for=lambda: [site.id],
            name_of=lambda _: site.name,
            clock=SYSTEM,
        )
        for number in range(20):
            key = pack_key()
            contents[key] = bytes([number]) * 1000
            primary.objects.put_bytes(key, contents[key])
            followers.wait([key])
            assert store.get_bytes(key) == contents[key], "it was there before anybody was told"
        registry.remove(primary.database, site.id)
        _until(lambda: puller.state.phase == "paused" and "removed" in puller.state.because)
    finally:
        stop.set()
        line.close()
        thread.join(60)
    assert not thread.is_alive()
    assert {key: store.get_bytes(key) for key in contents} == contents


def test_addresses_that_nobody_has_are_said(primary: Primary, data: Path, site: Site) -> None:
    assert asked(primary, data, "/-/sites/v1/nothing")[0] == 404
    assert asked(primary, data, "/-/sites/v1/feed?identity=x")[0] == 400
    assert asked(primary, data, "/-/sites/v1/feed?after=%ff;;")[0] == 400


def _is_refused(line: Line) -> bool:
    try:
        line.facts()
    except SiteRefused as refused:
        return "removed" in str(refused)
    return False


def _until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    until_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until_s
