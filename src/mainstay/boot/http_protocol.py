"""uvicorn's HTTP protocol with two limits that it leaves to others: the size of a head and the time for it.

Without them one client can fill the memory with an endless header, or hold connections open by sending a
byte a minute. Bodies have their limits in the doors.

And an answer that is made in one turn of the loop goes out in one piece: uvicorn writes its head, its body
and its end one by one, and each would be a packet that wakes the client up.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mainstay.foundation.proxy_header import Endpoint

SILENT_BYTES_MAX = 64 * 1024
HEAD_SECONDS_MAX = 15.0
CONNECTIONS_MAX = 4096
"""More are answered 503 at once."""
SHOWN: Final = "mainstay.shown"
_GATHERED_BYTES_MAX = 16 * 1024

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain\r\ncontent-length: 28\r\nconnection: close\r\n\r\n"
    b"the request head is too big\n"
)


class GatheringTransport:
    """A transport that sends what is written in one turn of the loop together, up to a limit."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        """All but writing and closing is the transport's own."""
        return getattr(self._transport, name)

    def write(self, piece: bytes) -> None:
        if not self._pieces:
            asyncio.get_running_loop().call_soon(self._send)
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes > _GATHERED_BYTES_MAX:
            self._send()  # so that the transport can say when it is full

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        pieces, self._pieces, self._held_bytes = self._pieces, [], 0
        if pieces and not self._transport.is_closing():
            self._transport.writelines(pieces)


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection.

    Counted are the bytes since the last that meant something (a whole head, a piece of body, a whole
    message). That bounds heads, and what chunked bodies may hide: endless chunk extensions and trailers.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", GatheringTransport(transport)))
        self._silent_bytes = 0
        self._in_head = True
        self._deadline: asyncio.TimerHandle | None = None
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._silent_bytes += len(data)
        if self._in_head and self._deadline is None:
            self._expect_head()
        super().data_received(data)
        if self._silent_bytes > SILENT_BYTES_MAX and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._in_head = False
        self._silent_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._silent_bytes = 0
        super().on_message_complete()

    def _expect_head(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS_MAX, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        """Too slow: the client gets no answer, because it would not read it either."""
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


class AnnouncedHttpProtocol(BoundedHttpProtocol):
    """A connection through `boot.accepting`; a proxy may have announced whose it is."""

    announced: Endpoint | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.announced:
            self.client = (self.announced.host, self.announced.port)


class SiteHttpProtocol(BoundedHttpProtocol):
    """A connection of the line between sites: each request has the name and the serial of the certificate
    that the peer showed and TLS has verified, under `extensions`. None of both: it showed none.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._shown = shown_in(transport.get_extra_info("peercert"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {SHOWN: self._shown} if self._shown else {}
        self.scope["extensions"] = extensions


def shown_in(certificate: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Its name and its serial in lower-case hex."""
    if not certificate:
        return None
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return (names[0], f"{int(certificate['serialNumber'], 16):x}") if len(names) == 1 else None


def server_options() -> dict[str, Any]:
    """What uvicorn is to do and not to do, beside the sockets and the application."""
    return {
        "http": BoundedHttpProtocol,
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "limit_concurrency": CONNECTIONS_MAX,
        "timeout_keep_alive": 75,  # longer than the usual 60 s of balancers, so that they close first
    }
