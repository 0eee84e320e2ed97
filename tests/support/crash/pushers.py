"""Clients that push over HTTP or SSH without starting a process, and tell exactly what they were told.

A connection that ends in the middle of an answer is kept as far as it came: an `ok` that arrived was
believed by somebody.
"""

import asyncio
import http.client
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import asyncssh

from support.raw_push import RawObject, RawPusher

Update = tuple[str, str, str]
_CONVERSATION_S_MAX = 60.0


class Pusher(Protocol):
    """Somebody who pushes to one repository."""

    def push(
        self, updates: list[Update], objects: list[RawObject], *, atomic: bool = False
    ) -> dict[str, str] | None:
        """What the server reported per ref, or None when it reported nothing."""
        ...

    def refs(self) -> dict[str, str]: ...

    def close(self) -> None: ...


class HttpPusher(RawPusher):
    """As `RawPusher`; also takes an answer that was cut off."""

    def post(self, service: str, body: bytes) -> bytes | None:
        connection = self._connected()
        try:
            connection.request("POST", f"{urlsplit(self.url).path}/{service}", body, self._headers(service))
            response = connection.getresponse()
            answer = response.read()
        except http.client.IncompleteRead as cut:
            self.close()
            return cut.partial or None
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        return answer if response.status == 200 else None


@dataclass
class SshPusher(RawPusher):
    """`url` is `ssh://git@127.0.0.1:PORT/PATH.git`; `secret` the path of the private key."""

    def post(self, service: str, body: bytes) -> bytes | None:
        try:
            return asyncio.run(self._converse(service, body))[1] or None
        except (OSError, asyncssh.Error):
            return None

    def refs(self) -> dict[str, str]:
        advertised, _ = asyncio.run(self._converse("git-receive-pack", b"0000"))
        pairs = (line.split(b"\0")[0].split(b" ", 1) for line in _packets(advertised))
        return {name.decode(): oid.decode() for oid, name in pairs if name != b"capabilities^{}"}

    async def _converse(self, service: str, body: bytes) -> tuple[bytes, bytes]:
        """The advertisement, and what came after `body` was sent."""
        parts = urlsplit(self.url)
        async with asyncio.timeout(_CONVERSATION_S_MAX):
            connection = await asyncssh.connect(
                parts.hostname or "",
                parts.port or 22,
                username="git",
                client_keys=[str(Path(self.secret))],
                known_hosts=None,
                config=None,
                agent_path=None,
            )
            try:
                command = f"{service} '{parts.path}'"
                process = await connection.create_process(command, encoding=None)
                advertised = await _until_flush(process.stdout)
                process.stdin.write(body)
                process.stdin.write_eof()
                return advertised, await _rest(process.stdout)
            finally:
                connection.abort()


async def _until_flush(stream: asyncssh.SSHReader[bytes]) -> bytes:
    read = b""
    while not read.endswith(b"0000"):
        head = await stream.readexactly(4)
        read += head + (await stream.readexactly(int(head, 16) - 4) if head != b"0000" else b"")
    return read


async def _rest(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """Everything that still comes, however it ends."""
    read = b""
    try:
        while chunk := await stream.read(65536):
            read += chunk
    except (OSError, asyncssh.Error):
        return read
    return read


def _packets(text: bytes) -> list[bytes]:
    packets, at = [], 0
    while (length := int(text[at : at + 4], 16)) > 4:
        packets.append(text[at + 4 : at + length].rstrip(b"\n"))
        at += length
    return packets
