"""A light Git client for rate and for crash points: makes commits in memory and pushes them over HTTP.

It keeps its connection, starts no process and knows just enough of the protocol. What it says of a push is
what the server said: `ok`, the reason of `ng`, or None when the connection ended without a report.
"""

import base64
import hashlib
import http.client
import zlib
from dataclasses import dataclass, field
from urllib.parse import urlsplit

ZERO = "0" * 40
_KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}


@dataclass(frozen=True)
class RawObject:
    kind: str
    content: bytes

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"%s %d\0" % (self.kind.encode(), len(self.content)) + self.content).hexdigest()


def blob(content: bytes) -> RawObject:
    return RawObject("blob", content)


def tree(files: dict[str, RawObject]) -> RawObject:
    entries = [
        b"%s %s\0" % (b"40000" if each.kind == "tree" else b"100644", name.encode()) + bytes.fromhex(each.oid)
        for name, each in sorted(files.items())
    ]
    return RawObject("tree", b"".join(entries))


def commit(top: RawObject, parent: str | None, message: str) -> RawObject:
    who = "Ada <ada@example.org> 1700000000 +0000"
    parents = f"parent {parent}\n" if parent else ""
    return RawObject(
        "commit", f"tree {top.oid}\n{parents}author {who}\ncommitter {who}\n\n{message}\n".encode()
    )


def pack_of(objects: list[RawObject]) -> bytes:
    """A pack with each object whole."""
    packed = b"PACK" + (2).to_bytes(4, "big") + len(objects).to_bytes(4, "big")
    for each in objects:
        packed += _header(_KINDS[each.kind], len(each.content)) + zlib.compress(each.content)
    return packed + hashlib.sha1(packed).digest()


def _header(kind: int, size: int) -> bytes:
    first, size = (kind << 4) | (size & 15), size >> 4
    octets = []
    while size:
        octets.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    return bytes([*octets, first])


def pkt(line: bytes) -> bytes:
    return b"%04x%s" % (len(line) + 4, line)


def push_request(
    updates: list[tuple[str, str, str]], objects: list[RawObject], *, capabilities: str = "report-status"
) -> bytes:
    """The body of a receive-pack request: (ref, old, new) updates, then the pack."""
    lines = [f"{old} {new} {ref}".encode() for ref, old, new in updates]
    lines[0] += b"\0" + capabilities.encode()
    commands = b"".join(pkt(line) for line in lines) + b"0000"
    deletes_only = all(new == ZERO for _, _, new in updates)
    return commands if deletes_only else commands + pack_of(objects)


@dataclass
class RawPusher:
    """Pushes to one repository at `url`, such as `http://127.0.0.1:8080/root/one.git`."""

    url: str
    user: str
    secret: str
    timeout_s: float = 60
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def push(
        self, updates: list[tuple[str, str, str]], objects: list[RawObject], *, atomic: bool = False
    ) -> dict[str, str] | None:
        """What the server reported per ref (`ok` or a reason), or None when it reported nothing."""
        capabilities = "report-status atomic" if atomic else "report-status"
        answer = self.post("git-receive-pack", push_request(updates, objects, capabilities=capabilities))
        return None if answer is None else _report(answer)

    def post(self, service: str, body: bytes) -> bytes | None:
        """The whole answer, or None when the connection ended early or the status is not 200."""
        try:
            connection = self._connected()
            connection.request("POST", f"{urlsplit(self.url).path}/{service}", body, self._headers(service))
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        return answer if response.status == 200 else None

    def refs(self) -> dict[str, str]:
        """The refs as the server advertises them for a push."""
        connection = self._connected()
        path = f"{urlsplit(self.url).path}/info/refs?service=git-receive-pack"
        connection.request("GET", path, headers=self._headers(None))
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, (response.status, answer[:200])
        return {
            line[41:].split(b"\0")[0].strip().decode(): line[:40].decode()
            for line in _lines(answer)
            if len(line) > 41
            and line[40:41] == b" "
            and not line.startswith(b"#")
            and b"capabilities^{}" not in line
        }

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self.url)
            self._connection = http.client.HTTPConnection(
                parts.hostname or "", parts.port, timeout=self.timeout_s
            )
        return self._connection

    def _headers(self, service: str | None) -> dict[str, str]:
        basic = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        return headers | ({"Content-Type": f"application/x-{service}-request"} if service else {})


def _lines(answer: bytes) -> list[bytes]:
    """The payloads of the packets; flushes are left out."""
    lines, at = [], 0
    while at + 4 <= len(answer):
        length = int(answer[at : at + 4], 16)
        if length >= 4:
            lines.append(answer[at + 4 : at + length])
        at += max(length, 4)
    return lines


def _report(answer: bytes) -> dict[str, str] | None:
    lines = [line.decode("utf-8", "replace").rstrip("\n") for line in _lines(answer)]
    if not lines or not lines[0].startswith("unpack "):
        return None
    report = {}
    for line in lines[1:]:
        verdict, _, rest = line.partition(" ")
        ref, _, reason = rest.partition(" ")
        report[ref] = "ok" if verdict == "ok" else reason
    return report
