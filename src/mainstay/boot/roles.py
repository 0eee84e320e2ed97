"""What a node answers that does not have the role for a request."""

from collections.abc import Collection

from mainstay.boot.entrance import App, Receive, Scope, Send
from mainstay.boot.parsing import Role


def not_served(roles: Collection[Role]) -> App:
    """An application for a node without the role `web`, which serves neither pages nor API nor Git over HTTP.

    503 and not 404: what was asked for may well be there, at another node, and a balancer may try that.
    """
    has = ", ".join(sorted(roles))
    body = f"This node does not serve pages, the API or Git over HTTP: its roles are {has}.\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return refuse
