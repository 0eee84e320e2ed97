"""A Git client that throws the pack away, so that the server is what is measured.

`git clone` spends most of its time in the client's own index-pack, whatever the server.
"""

import http.client
from dataclasses import dataclass
from urllib.parse import urlsplit

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 300
_FLUSH, _DELIMITER = b"0000", b"0001"


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository over HTTP, and the headers that open it."""

    url: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)


def packet(line: bytes) -> bytes:
    return b"%04x%s" % (len(line) + 4, line)


def ls_refs_request() -> bytes:
    """What git 2.39 sends to list branches and tags."""
    capabilities = (
        packet(b"command=ls-refs\n") + packet(b"agent=git/2.39.5\n") + packet(b"object-format=sha1")
    )
    arguments = [b"peel\n", b"symrefs\n", b"ref-prefix refs/heads/\n", b"ref-prefix refs/tags/\n"]
    return capabilities + _DELIMITER + b"".join(map(packet, arguments)) + _FLUSH


def list_refs(remote: Remote) -> dict[bytes, bytes]:
    """Name to object name, by protocol v2."""
    connection = remote.connect()
    try:
        answer = _post(connection, remote, ls_refs_request()).read()
    finally:
        connection.close()
    lines = [line.split(b" ") for line in _lines(answer)]
    return {words[1].strip(): words[0] for words in lines}


def _lines(answer: bytes) -> list[bytes]:
    lines, at = [], 0
    while at < len(answer):
        length = int(answer[at : at + 4], 16)
        if length > len(_FLUSH):
            lines.append(answer[at + 4 : at + length])
        at += max(length, 4)
    return lines


def _post(connection: http.client.HTTPConnection, remote: Remote, body: bytes) -> http.client.HTTPResponse:
    headers = {
        **remote.headers,
        "Content-Type": "application/x-git-upload-pack-request",
        "Accept": "application/x-git-upload-pack-result",
        "Git-Protocol": "version=2",
    }
    connection.request("POST", f"{remote.path}/git-upload-pack", body, headers)
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        message = f"{remote.url}: {response.status} {response.read(2000)!r}"
        raise RuntimeError(message)
    return response


class Clone:
    """A full clone under way."""

    def __init__(self, remote: Remote, wants: list[bytes]) -> None:
        capabilities = packet(b"command=fetch") + packet(b"agent=git/2.39.5") + packet(b"object-format=sha1")
        arguments = [b"thin-pack", b"no-progress", b"ofs-delta"]
        arguments += [b"want %s\n" % oid for oid in wants] + [b"done\n"]
        body = capabilities + _DELIMITER + b"".join(map(packet, arguments)) + _FLUSH
        self._connection = remote.connect()
        self._response = _post(self._connection, remote, body)
        self._head = self._response.read(4096)
        if b"PACK" not in self._head:
            message = f"{remote.url}: no pack but {self._head[:200]!r}"
            raise RuntimeError(message)

    def finish(self) -> int:
        """Read to the end and return how many bytes came."""
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        total, tail = len(self._head), self._head[-4:]
        while count := self._response.readinto(buffer):
            total += count
            tail = bytes(tail + buffer[max(0, count - 4) : count])[-4:]
        self._connection.close()
        if tail != _FLUSH:
            message = f"the answer ended early, after {total} bytes"
            raise RuntimeError(message)
        return total


def wanted(refs: dict[bytes, bytes]) -> list[bytes]:
    """Each object name once."""
    return sorted(set(refs.values()))
