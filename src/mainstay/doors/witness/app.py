"""The door of a witness: `GET` and `PUT /witness/v1/record`, and `GET /-/health` for whoever watches it.

Who has no token learns nothing. What is sent is small, and ends soon or is cut off; of requests at the same
time there are few. The record is kept (and synced) in a thread, one change at a time.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from mainstay.cluster.witness import (
    BadRecord,
    Overtaken,
    Seen,
    Witness,
    WitnessAway,
    record_from,
    record_said,
)
from mainstay.cluster.witness.process import PATH
from mainstay.foundation.logs import Secret, get_logger
from mainstay.foundation.small_body import BodyBroken, BodyTooLarge, BodyTooSlow, Receive, whole_body

log = get_logger()

BODY_BYTES_MAX: Final = 16 * 1024
BODY_S_MAX: Final = 5.0
_MATCH: Final = re.compile(rb'"([A-Za-z0-9-]{1,128})"\Z')

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, because: str) -> None:
        super().__init__(because)
        self.status = status


class WitnessDoor:
    """An ASGI application. TLS, and with it certificates, is the server's business."""

    def __init__(self, witness: Witness, token: Secret) -> None:
        self._witness = witness
        self._token = token
        self._changing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, said = await self._answer(scope, receive)
        except _Refused as refused:
            status, said = refused.status, {"because": str(refused)}
        await _send(send, status, said)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[HTTPStatus, dict[str, Any]]:
        if scope["path"] == "/-/health":
            return HTTPStatus.OK, {"status": "ok"}
        headers = dict(scope["headers"])
        if self._token != headers.get(b"authorization", b"").decode("latin-1").removeprefix("Bearer "):
            raise _Refused(HTTPStatus.UNAUTHORIZED, "a token is needed")
        if scope["path"] != PATH:
            raise _Refused(HTTPStatus.NOT_FOUND, "no such address")
        if scope["method"] == "GET":
            return await self._look()
        if scope["method"] == "PUT":
            return await self._swap(_condition(headers), await _body(receive))
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "GET or PUT")

    async def _look(self) -> tuple[HTTPStatus, dict[str, Any]]:
        # Under the same lock as changes, so that the loop never waits for a disk that a change waits for.
        async with self._changing:
            seen = await asyncio.to_thread(self._witness.look)
        if seen is None:
            return HTTPStatus.NOT_FOUND, {"because": "no record: nobody has enrolled"}
        return HTTPStatus.OK, _shown(seen)

    async def _swap(self, version: str | None, body: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
        try:
            record = record_from(json.loads(body))
        except (ValueError, BadRecord) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"not a record: {error}") from error
        async with self._changing:
            try:
                made = await asyncio.to_thread(self._witness.swap, version, record)
            except Overtaken as error:
                raise _Refused(HTTPStatus.PRECONDITION_FAILED, str(error)) from error
            except BadRecord as error:
                raise _Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
            except WitnessAway as error:
                log.warning("witness.not_kept", because=str(error))
                raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        if record.renewal == 0:
            log.info("witness.changed", epoch=record.epoch, primary=record.name or record.primary)
        return HTTPStatus.OK, {"version": made}


def _shown(seen: Seen) -> dict[str, Any]:
    return {"record": record_said(seen.record), "version": seen.version, "age_s": seen.age_s}


def _condition(headers: dict[bytes, bytes]) -> str | None:
    """The version that a change is for; None: there must be no record."""
    if headers.get(b"if-none-match") == b"*":
        return None
    found = _MATCH.match(headers.get(b"if-match", b""))
    if found is None:
        raise _Refused(HTTPStatus.PRECONDITION_REQUIRED, "If-Match or If-None-Match: * is needed")
    return found[1].decode()


async def _body(receive: Receive) -> bytes:
    try:
        return await whole_body(receive, bytes_max=BODY_BYTES_MAX, within_s=BODY_S_MAX)
    except BodyTooLarge as error:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from error
    except BodyTooSlow as error:
        raise _Refused(HTTPStatus.REQUEST_TIMEOUT, str(error)) from error
    except BodyBroken as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from error


async def _send(send: Send, status: HTTPStatus, said: dict[str, Any]) -> None:
    body = json.dumps(said).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status >= HTTPStatus.BAD_REQUEST:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
