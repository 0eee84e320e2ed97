"""One HTTP request as no Git client would send it, and the whole answer."""

import http.client
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.node import Node
from support.raw_push import pkt


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def basic(username: str, secret: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{username}:{secret}'.encode()).decode()}"}


def ask(
    node: Node,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = 60,
) -> Reply:
    """Send it over a connection of its own. An iterable body goes in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=timeout_s)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.headers.items()), answer.read())
    finally:
        connection.close()


def post_to(
    node: Node, path: str, service: str, body: Any, headers: Mapping[str, str], *, timeout_s: float = 60
) -> Reply:
    """POST to a service of a repository, with the right content type."""
    kind = {"Content-Type": f"application/x-{service}-request"}
    return ask(node, "POST", f"/{path}.git/{service}", body, {**kind, **headers}, timeout_s=timeout_s)


def commands(updates: list[tuple[str, str, str]], *, capabilities: str = "report-status") -> bytes:
    """The commands of a push: (ref, old, new), and the flush after them."""
    lines = [f"{old} {new} {ref}".encode() for ref, old, new in updates]
    lines[0] += b"\0" + capabilities.encode()
    return b"".join(pkt(line) for line in lines) + b"0000"
