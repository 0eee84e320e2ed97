"""What the line between sites makes of a peer that is broken, slow, or lies."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mainstay.cluster import authority
from mainstay.cluster.sites.identity import SiteIdentity, server_name_of
from mainstay.cluster.sites.line import CannotKeep, Line, LineBroken, NotASiteThere, _keep
from mainstay.cluster.sites.passes import SiteRefused
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Conflict, Invalid
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.retry import Schedule
from mainstay.storage.feed.log import FeedGone
from mainstay.storage.objects import NoSuchObject

PRIMARY = new_ulid()
STRETCH = 1000
QUICK = Schedule(attempts_max=3, first_pause_s=0.001, pause_max_s=0.001)


class Last(bytes):
    """An answer after which the peer hangs up."""


Behaviour = Callable[[str, int], bytes | None]
"""Head of the request and its number → the whole answer; None: hang up."""


def answered(status: int, body: bytes, **headers: object) -> bytes:
    named = {"Content-Length": len(body), **{name.replace("_", "-"): text for name, text in headers.items()}}
    head = "".join(f"{name}: {text}\r\n" for name, text in named.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


def refused(status: int, message: str = "no", **headers: object) -> bytes:
    return answered(status, json.dumps({"message": message}).encode(), **headers)


def stretch(content: bytes, head: str) -> bytes:
    """A right answer to a request for a part of `content`."""
    first, _, last = head.partition("bytes=")[2].partition("\r\n")[0].partition("-")
    part = content[int(first) : int(last) + 1]
    return answered(206, part + sha256(part).digest(), x_mainstay_size=len(content))


class Peer:
    """Speaks TLS as a site, and then does what a test wants."""

    def __init__(self, context: ssl.SSLContext, behaviour: Behaviour) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self._behaviour = behaviour
        self._lock = threading.Lock()
        self.requests: list[str] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                bare, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(bare,), daemon=True).start()

    def _serve(self, bare: socket.socket) -> None:
        with suppress(OSError), self._context.wrap_socket(bare, server_side=True) as tls:
            reader = tls.makefile("rb")
            while head := _head(reader):
                with self._lock:
                    self.requests.append(head)
                    number = len(self.requests)
                answer = self._behaviour(head, number)
                if answer is None:
                    return
                tls.sendall(answer)
                if isinstance(answer, Last):
                    return


def _head(reader: object) -> str:
    lines: list[bytes] = []
    while (line := reader.readline()) not in (b"", b"\r\n"):  # type: ignore[attr-defined]
        lines.append(line)
    length = next((int(each[16:]) for each in lines if each.lower().startswith(b"content-length:")), 0)
    reader.read(length)  # type: ignore[attr-defined]
    return b"".join(lines).decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SiteIdentity:
    """The files of a site that trusts, and is trusted by, everybody here."""
    parts = json.loads(authority._new(SYSTEM.now_ms()))
    key = serialization.load_pem_private_key(parts["key"].encode(), password=None)
    ca = authority.Authority(key, x509.load_pem_x509_certificate(parts["certificate"].encode()))  # type: ignore[arg-type]
    data = tmp_path_factory.mktemp("site")
    identity = SiteIdentity(data)
    identity.keep(ca.issue_for_site(server_name_of(PRIMARY), now_ms=SYSTEM.now_ms()))
    return identity


@contextmanager
def speaking(
    site: SiteIdentity, behaviour: Behaviour, *, silence_s: float = 10.0
) -> Iterator[tuple[Line, Peer]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.certificate_file)
    peer = Peer(context, behaviour)
    line = Line(
        peer.address,
        site,
        site_id=PRIMARY,
        patience=QUICK,
        silence_s_max=silence_s,
        stretch_bytes=STRETCH,
    )
    try:
        yield line, peer
    finally:
        line.close()
        peer.close()


CONTENT = bytes(range(250)) * 13  # three stretches, and a quarter


def broken_now_and_then(numbers: Sequence[int], how: Callable[[bytes], bytes | None]) -> Behaviour:
    """As it should be, but for the requests of these numbers, after which the peer hangs up."""

    def behave(head: str, number: int) -> bytes | None:
        good = stretch(CONTENT, head)
        bad = how(good) if number in numbers else good
        return Last(bad) if bad is not None and number in numbers else bad

    return behave


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(lambda good: good[: len(good) // 2], id="cut"),
        pytest.param(lambda good: good[:-1], id="cut-in-the-sum"),
        pytest.param(lambda good: good[:-40] + b"\x00" + good[-39:], id="a-flipped-byte"),
        pytest.param(lambda good: good[:-1] + b"\x00", id="a-wrong-sum"),
        pytest.param(lambda _: None, id="hung-up"),
        pytest.param(lambda _: b"HTTP/1.1 nonsense\r\n\r\n", id="nonsense"),
        pytest.param(lambda _: refused(503, "not now", retry_after=1), id="not-now"),
    ],
)
def test_a_stretch_that_breaks_is_fetched_again_and_no_other(
    site: SiteIdentity, tmp_path: Path, how: Callable[[bytes], bytes | None]
) -> None:
    with speaking(site, broken_now_and_then([2, 3], how)) as (line, peer):
        line.download("key", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == CONTENT
        asked = [head.partition("bytes=")[2].partition("\r\n")[0] for head in peer.requests]
    assert asked == ["0-999", *["1000-1999"] * 3, "2000-2999", "3000-3999"]


def test_what_stays_broken_is_said_and_leaves_nothing_unchecked(site: SiteIdentity, tmp_path: Path) -> None:
    def behave(head: str, number: int) -> bytes | None:
        good = stretch(CONTENT, head)
        return good if number == 1 else good[:-1] + b"\x00"

    with speaking(site, behave) as (line, peer):
        with pytest.raises(LineBroken, match="other bytes"):
            line.download("key", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == CONTENT[:STRETCH]
        assert len(peer.requests) == 4


def test_silence_ends_but_slowness_does_not(site: SiteIdentity, tmp_path: Path) -> None:
    go = threading.Event()

    def hang(head: str, number: int) -> bytes | None:
        assert go.wait(60)
        return None

    with speaking(site, hang, silence_s=0.2) as (line, _):
        began_s = time.monotonic()
        with pytest.raises(LineBroken, match="nobody answers"):
            line.facts()
        assert time.monotonic() - began_s < 20
        go.set()


def test_a_line_that_is_closed_ends_what_is_under_way(site: SiteIdentity) -> None:
    asked, go = threading.Event(), threading.Event()

    def hang(head: str, number: int) -> bytes | None:
        asked.set()
        go.wait(60)
        return None

    with speaking(site, hang, silence_s=60) as (line, _):
        ended: list[Exception] = []

        def ask() -> None:
            try:
                line.facts()
            except LineBroken as broken:
                ended.append(broken)

        thread = threading.Thread(target=ask)
        thread.start()
        assert asked.wait(60)
        line.close()
        thread.join(30)
        assert len(ended) == 1
        go.set()
        with pytest.raises(LineBroken, match="closed"):
            line.facts()


def test_a_connection_is_used_again_and_one_that_died_is_no_failure(site: SiteIdentity) -> None:
    def behave(head: str, number: int) -> bytes | None:
        return None if number == 3 else answered(200, b'{"a": 1}')

    with speaking(site, behave) as (line, peer):
        assert [line.facts() for _ in range(4)] == [{"a": 1}] * 4
        assert peer.connections == 2
        assert len(peer.requests) == 5


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, Invalid),
        (401, SiteRefused),
        (404, NoSuchObject),
        (409, Conflict),
        (410, FeedGone),
        (500, LineBroken),
        (302, LineBroken),
    ],
)
def test_a_refusal_is_the_error_that_it_was_there(
    site: SiteIdentity, status: int, family: type[Exception]
) -> None:
    with (
        speaking(site, lambda _head, _number: refused(status, "because of this")) as (line, _),
        pytest.raises(family, match="because of this"),
    ):
        line.feed("identity", 0, wait_s=0)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"x" * 100])
def test_what_is_no_site_is_said(site: SiteIdentity, body: bytes) -> None:
    with (
        speaking(site, lambda _head, _number: answered(200, body)) as (line, _),
        pytest.raises(NotASiteThere),
    ):
        line.facts()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"3 a/key\nend 2\n", LineBroken),
        (b"3 a/key\n", LineBroken),
        (b"", LineBroken),
        (b"three a/key\nend 1\n", LineBroken),
        (b"x" * 5000, NotASiteThere),
    ],
)
def test_a_list_that_is_not_whole_is_none(site: SiteIdentity, body: bytes, kind: type[Exception]) -> None:
    with speaking(site, lambda _head, _number: answered(200, body)) as (line, _), pytest.raises(kind):
        list(line.listing(""))


def _bundled(key: str, content: bytes) -> bytes:
    return f"{len(content)} {key}\n".encode() + content + sha256(content).digest()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        _bundled("a", b"content"),
        _bundled("a", b"content") + b"- b\nend 3\n",
        _bundled("b", b"content") + b"- b\nend 2\n",
        _bundled("a", b"content")[:-1] + b"\x00" + b"- b\nend 2\n",
        _bundled("a", b"content").replace(b"7 a", b"9000 a") + b"- b\nend 2\n",
        b"- a\n- b\nend 2\nmore",
    ],
)
def test_a_bundle_that_is_not_whole_is_none(site: SiteIdentity, body: bytes) -> None:
    with (
        speaking(site, lambda _head, _number: answered(200, body)) as (line, _),
        pytest.raises(LineBroken),
    ):
        line.bundle(["a", "b"])


@pytest.mark.parametrize("position", ["7", "x", "99"])
def test_a_page_that_is_not_whole_is_none(site: SiteIdentity, position: str) -> None:
    page = answered(200, b"+ 1 2 key\n", x_mainstay_position=position, x_mainstay_now_ms=1)
    with (
        speaking(site, lambda _head, _number: page) as (line, _),
        pytest.raises((LineBroken, NotASiteThere)),
    ):
        line.feed("identity", 0, wait_s=0)


def test_a_disk_that_is_full_is_not_taken_for_the_line() -> None:
    with pytest.raises(CannotKeep, match="cannot be kept here"), Path("/dev/full").open("wb") as full:
        _keep(full, b"x" * 100_000)


def test_nobody_there_is_said(site: SiteIdentity) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(LineBroken, match=f"nobody answers at 127.0.0.1:{port}"):
        Line(f"127.0.0.1:{port}", site, site_id=PRIMARY, patience=QUICK).facts()
