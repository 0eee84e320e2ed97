"""Calls an ASGI application without a socket, and lets a test be the client: slow, broken off, or well."""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Application = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


@dataclass
class Reply:
    """What the application sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    completed: bool = False

    @property
    def text(self) -> str:
        return self.body.decode()


def basic(username: str, secret: str) -> tuple[str, str]:
    return ("authorization", "Basic " + b64encode(f"{username}:{secret}".encode()).decode())


class Client:
    """One request. `hang_up` may be set at any time."""

    def __init__(self, pieces: Sequence[bytes] = (b"",)) -> None:
        self.pieces = list(pieces)
        self.hang_up = asyncio.Event()
        self.reply = Reply()

    async def receive(self) -> MutableMapping[str, Any]:
        if self.pieces:
            body = self.pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self.pieces)}
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not self.reply.status, "an answer starts once"
            self.reply.status = message["status"]
            self.reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        assert not self.reply.completed, "nothing follows the end"
        self.reply.body += message.get("body", b"")
        self.reply.completed = not message.get("more_body", False)

    async def request(
        self, application: Application, method: str, address: str, *headers: tuple[str, str]
    ) -> Reply:
        path, _, query = address.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
            "client": ("192.0.2.7", 5555),
        }
        await application(scope, self.receive, self.send)
        return self.reply


async def ask(
    application: Application,
    method: str,
    address: str,
    *headers: tuple[str, str],
    pieces: Sequence[bytes] = (b"",),
) -> Reply:
    return await Client(pieces).request(application, method, address, *headers)
