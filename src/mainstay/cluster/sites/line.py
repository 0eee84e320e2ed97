"""The client's end of the line between sites: blocking, over TLS, with the certificate of this site.

What is limited is silence, never the whole time, so that an object of any size passes on a line of any speed.
Objects come in stretches, each followed by the SHA-256 of what was sent; a line that breaks costs at most the
stretch that was under way. Connections are kept for the next request, a few of them.

    Unavailable    nobody answers, or not now; also what arrived broken, after several attempts
    SiteRefused    the other site does not let us in (any more)
    FeedGone       the feed has begun anew: compare everything
"""

import http.client
import io
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote, urlencode

from mainstay.cluster.sites.identity import SiteIdentity, server_name_of
from mainstay.cluster.sites.passes import SiteRefused
from mainstay.cluster.sites.positions import Acknowledged
from mainstay.foundation.errors import Conflict, Invalid, MainstayError, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.retry import Schedule, retry
from mainstay.storage.feed.log import FeedGone, Page, entry_in
from mainstay.storage.objects import NoSuchObject

log = get_logger()

ROOT: Final = "/-/sites/v1"
STRETCH_BYTES: Final = 16 << 20
"""As much is lost at most when a line breaks; a round trip per stretch is what it costs."""
CONNECT_S_MAX: Final = 5.0
SILENCE_S_MAX: Final = 30.0
_SUM_BYTES: Final = 32
_READ_BYTES: Final = 256 * 1024
_ANSWER_BYTES_MAX: Final = 4 << 20
_BUNDLE_BYTES_MAX: Final = 32 << 20
_LISTED_LINE_BYTES_MAX: Final = 1024
_IDLE_MAX: Final = 8
_PATIENCE: Final = Schedule(attempts_max=4, first_pause_s=0.2, pause_max_s=2.0)
_LISTED: Final = re.compile(rb"([0-9]{1,19}) ([!-~]{1,512})\n")
_END: Final = re.compile(rb"end ([0-9]{1,19})\n")


class LineBroken(Unavailable):
    """Nobody answers, the answer broke off, or it is not what was sent. Nothing has happened; try again."""


class CannotKeep(Unavailable):
    """The disk here does not take it."""


class NotASiteThere(Conflict):
    """What answers is not the site that was meant, or of another release."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of the other site."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FeedPage(Page):
    """A page of the other site's feed."""

    now_ms: int
    """The clock there, when it was sent."""
    hurries: bool = False
    """Whether pushes there wait for us."""


class Line:
    """To one site. Safe for use from several threads."""

    def __init__(
        self,
        address: str,
        identity: SiteIdentity,
        *,
        site_id: str,
        patience: Schedule = _PATIENCE,
        silence_s_max: float = SILENCE_S_MAX,
        stretch_bytes: int = STRETCH_BYTES,
    ) -> None:
        """`address` is HOST:PORT, `site_id` whom we mean: TLS checks that it is that site."""
        self.address = address
        self.site_id = site_id
        self._identity = identity
        self._patience = patience
        self._silence_s_max = silence_s_max
        self._stretch_bytes = stretch_bytes
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._context: ssl.SSLContext | None = None
        self._context_of: tuple[int, int] | None = None
        self._closed = False
        self._busy: set[_Connection] = set()

    def close(self) -> None:
        """Requests under way end, too: as if nobody answered."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
            for connection in self._busy:
                connection.cut()
        for connection in idle:
            connection.close()

    def facts(self) -> Mapping[str, Any]:
        """Who is there, and how far."""
        return self._asked("GET", "facts")

    def size_bytes(self, key: str) -> int | None:
        """Of the object there; None when there is none."""
        try:
            with self._answer("GET", f"objects/{quote(key)}", {"Range": "bytes=0-0"}) as answer:
                answer.read(_READ_BYTES)
                return int(answer.headers["x-mainstay-size"])
        except NoSuchObject:
            return None

    def download(self, key: str, target: Path) -> None:
        """Write the object to `target`, checked. What is there of it already is gone on with.

        Raises `NoSuchObject`, `Unavailable`, `SiteRefused`.
        """
        with target.open("ab") as out:
            last = max(0, out.tell() - 1) // self._stretch_bytes * self._stretch_bytes
            try:
                self._download(key, out, last)
            except Invalid:
                if not last:
                    raise
                self._download(key, out, 0)  # what was there is not of this object

    def _download(self, key: str, out: BinaryIO, start: int) -> None:
        size_bytes = start + 1
        while start < size_bytes:
            stretch = partial(self._stretch, key, out, start)
            size_bytes = retry(stretch, on=LineBroken, schedule=self._patience)
            start = out.tell()

    def bundle(self, keys: Sequence[str]) -> Mapping[str, bytes | None]:
        """Several small objects at once, checked; None for one that is not there.

        Those that are missing in the answer are too large for this: `download` them.
        """
        found: dict[str, bytes | None] = {}
        body = json.dumps({"keys": list(keys)}).encode()
        with self._answer("POST", "bundle", body=body) as answer:
            content = io.BytesIO(_whole(answer, bytes_max=_BUNDLE_BYTES_MAX))
        for key in keys:
            head = content.readline(_LISTED_LINE_BYTES_MAX)
            if head == f"- {key}\n".encode():
                found[key] = None
            elif head != f"+ {key}\n".encode():
                found[key] = _small(head, key, content)
        if content.read() != b"end %d\n" % len(keys):
            raise LineBroken("a bundle of objects broke off")
        return found

    def listing(self, prefix: str) -> Iterator[Listed]:
        """What is there. Raises `LineBroken` when the list breaks off, however much came before."""
        count = 0
        with self._answer("GET", f"objects?{urlencode({'prefix': prefix})}") as answer:
            for line in _lines(answer):
                if ended := _END.fullmatch(line):
                    if int(ended[1]) != count:
                        break
                    return
                found = _LISTED.fullmatch(line)
                if found is None:
                    break
                count += 1
                yield Listed(found[2].decode(), int(found[1]))
        raise LineBroken("the list of objects broke off")

    def feed(self, identity: str, after: int, *, wait_s: int) -> FeedPage:
        """What follows the position; no entries when nothing came in time. Raises `FeedGone`."""
        query = urlencode({"identity": identity, "after": after, "wait_s": wait_s})
        with self._answer("GET", f"feed?{query}", silence_s=wait_s + self._silence_s_max) as answer:
            body = _whole(answer)
            try:
                entries = [entry_in(line) for line in body.splitlines()]
                position = int(answer.headers["x-mainstay-position"])
                now_ms = int(answer.headers["x-mainstay-now-ms"])
                hurries = answer.headers.get("x-mainstay-hurry") == "1"
            except (ValueError, TypeError) as error:
                raise NotASiteThere(f"what {self.address} sends as its feed is none") from error
        if position != after + len(body):
            raise LineBroken("the feed broke off")
        return FeedPage(entries, position, now_ms, hurries)

    def acknowledge(self, found: Acknowledged) -> None:
        """Say how far we are."""
        said = {
            "identity": found.identity,
            "position": found.position,
            "ahead": found.ahead,
            "received_bytes": found.received_bytes,
        }
        self._asked("POST", "ack", json.dumps(said).encode())

    def promise(self, epoch: int) -> bool:
        """Whether that site, a synchronous replica of ours, waits for a term before it takes over."""
        return self._asked("POST", "promise", json.dumps({"epoch": epoch}).encode()).get("is_allowed") is True

    def renew(self) -> None:
        """Get a further certificate, and use it from now on."""
        from mainstay.cluster.sites.admission import issued_in  # noqa: PLC0415 - imports a crypto library

        self._identity.keep(issued_in(self._asked("POST", "certificate", b"{}")))

    def _asked(self, method: str, path: str, body: bytes | None = None) -> Mapping[str, Any]:
        with self._answer(method, path, body=body) as answer:
            try:
                said = json.loads(_whole(answer))
            except ValueError as error:
                raise NotASiteThere(f"what answers at {self.address} is no site of Mainstay") from error
        if not isinstance(said, dict):
            raise NotASiteThere(f"what answers at {self.address} is no site of Mainstay")
        return said

    def _stretch(self, key: str, out: BinaryIO, start: int) -> int:
        """Write what follows `start`, and return the size of the whole. Leaves nothing unchecked behind."""
        out.truncate(start)
        out.seek(start)
        asked = {"Range": f"bytes={start}-{start + self._stretch_bytes - 1}"}
        try:
            with self._answer("GET", f"objects/{quote(key)}", asked) as answer:
                size_bytes = int(answer.headers["x-mainstay-size"])
                _copy_checked(answer, out, min(self._stretch_bytes, size_bytes - start))
                return size_bytes
        except MainstayError:
            out.truncate(start)
            raise

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        silence_s: float | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer, if it is a good one."""
        connection, answer = self._asked_somehow(method, f"{ROOT}/{path}", headers, body, silence_s)
        is_whole = False
        try:
            _refuse_bad(answer, self.address)
            yield answer
            is_whole = answer.isclosed()
        except (OSError, http.client.HTTPException) as broken:
            raise LineBroken(f"the line to {self.address} broke: {broken!r}") from broken
        finally:
            self._give_back(connection, is_whole=is_whole and not answer.will_close)

    def _asked_somehow(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        silence_s: float | None,
    ) -> tuple["_Connection", http.client.HTTPResponse]:
        """A connection that was kept may have been closed there meanwhile: then by another one."""
        while True:
            connection = self._take()
            try:
                connection.limit_silence(silence_s or self._silence_s_max)
                self._refuse_closed()
                connection.request(method, path, body, dict(headers or {}))
                return connection, connection.getresponse()
            except (OSError, http.client.HTTPException) as broken:
                self._give_back(connection, is_whole=False)
                if isinstance(broken, ssl.SSLError) and "ALERT" in (broken.reason or ""):
                    raise SiteRefused(
                        f"{self.address} does not take our certificate: {broken.reason}"
                    ) from broken
                if not connection.was_used or isinstance(broken, TimeoutError):
                    raise LineBroken(f"nobody answers at {self.address}: {_why(broken)}") from broken

    def _take(self) -> "_Connection":
        with self._lock:
            if self._idle:
                connection = self._idle.pop()
                connection.was_used = True
                self._busy.add(connection)
                return connection
        host, _, port = self.address.rpartition(":")
        connection = _Connection(
            host.strip("[]"), int(port), tls=self._tls(), server_name=server_name_of(self.site_id)
        )
        with self._lock:
            self._busy.add(connection)
        return connection

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ConnectionAbortedError("the line was closed")

    def _give_back(self, connection: "_Connection", *, is_whole: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if is_whole and not self._closed and len(self._idle) < _IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def _tls(self) -> ssl.SSLContext:
        """With the certificate that is in the file by now."""
        try:
            facts = self._identity.certificate_file.stat()
            now = (facts.st_ino, facts.st_mtime_ns)
        except OSError:
            now = None
        with self._lock:
            if self._context is None or now != self._context_of:
                self._context, self._context_of = self._identity.client_context(), now
            return self._context


class _Connection(http.client.HTTPSConnection):
    """One, to an address, for a name that has nothing to do with it."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host, port, timeout=CONNECT_S_MAX, context=tls)
        self._tls = tls
        self._server_name = server_name
        self.was_used = False

    def connect(self) -> None:
        bare = socket.create_connection((self.host, self.port), CONNECT_S_MAX)
        try:
            bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self._tls.wrap_socket(bare, server_hostname=self._server_name)
        except BaseException:
            bare.close()
            raise

    def cut(self) -> None:
        """From another thread: whoever waits for an answer hears that none comes."""
        sock = self.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def limit_silence(self, limit_s: float) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(limit_s)


def _copy_checked(answer: http.client.HTTPResponse, out: BinaryIO, length: int) -> None:
    """So many bytes and then their sum. Raises `LineBroken`."""
    total, left = sha256(), length
    while left:
        piece = answer.read(min(left, _READ_BYTES))
        if not piece:
            raise LineBroken(f"an object broke off, {left} bytes before its end")
        total.update(piece)
        _keep(out, piece)
        left -= len(piece)
    if _exactly(answer, _SUM_BYTES) != total.digest() or answer.read(1):
        raise LineBroken("an object arrived with other bytes than it was sent with")


def _keep(out: BinaryIO, piece: bytes) -> None:
    try:
        out.write(piece)
        out.flush()
    except OSError as full:
        raise CannotKeep(f"what comes over the line cannot be kept here: {full.strerror}") from full


def _lines(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Whole lines, with their ends. Raises `NotASiteThere` for one that is too long."""
    rest = b""
    while piece := answer.read(_READ_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(rest) > _LISTED_LINE_BYTES_MAX:
            raise NotASiteThere("a list has a line that is longer than any")


def _exactly(answer: http.client.HTTPResponse, length: int) -> bytes:
    found = b""
    while len(found) < length and (piece := answer.read(length - len(found))):
        found += piece
    return found


def _small(head: bytes, key: str, content: io.BytesIO) -> bytes:
    """The next object of a bundle. Raises `LineBroken`."""
    listed = _LISTED.fullmatch(head)
    if listed is None or listed[2] != key.encode():
        raise LineBroken("a bundle of objects broke off")
    found = content.read(int(listed[1]))
    if content.read(_SUM_BYTES) != sha256(found).digest():
        raise LineBroken("an object arrived with other bytes than it was sent with")
    return found


def _whole(answer: http.client.HTTPResponse, *, bytes_max: int = _ANSWER_BYTES_MAX) -> bytes:
    body = answer.read(bytes_max + 1)
    if len(body) > bytes_max:
        raise NotASiteThere("an answer is longer than any that a site gives")
    answer.read(1)  # to the end of it, so that the connection can be used again
    return body


def _refuse_bad(answer: http.client.HTTPResponse, address: str) -> None:
    """Turn a status back into the family of errors that it came from."""
    status = answer.status
    if status in (200, 206):
        return
    said = _sentence(_whole(answer)) or f"{address} answers {status}"
    families: Mapping[int, type[MainstayError]] = {
        400: Invalid,
        401: SiteRefused,
        403: SiteRefused,
        404: NoSuchObject,
        409: Conflict,
        410: FeedGone,
    }
    family = families.get(status)
    if family is None:
        retry_s = answer.headers.get("retry-after", "")
        raise LineBroken(said, retry_after_s=int(retry_s) if retry_s.isdigit() else 5)
    raise family(said)


def _sentence(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return ""


def _why(broken: Exception) -> str:
    if isinstance(broken, ssl.SSLCertVerificationError):
        return f"its certificate is not that of the site: {broken.verify_message}"
    return str(broken) or type(broken).__name__
