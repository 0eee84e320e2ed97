"""What the web process gets to see, and what the client gets back."""

import asyncio
from typing import Any

import pytest

from mainstay.doors.web import proxy
from mainstay.doors.web.proxy import Body, answer_headers, request_headers


def scope_with(
    *headers: tuple[bytes, bytes], raw_path: bytes = b"/a%2Fb", query: bytes = b""
) -> dict[str, Any]:
    return {
        "headers": list(headers),
        "raw_path": raw_path,
        "query_string": query,
        "client": ("203.0.113.9", 0),
        "scheme": "https",
    }


def test_nobody_can_pretend_to_be_the_data_plane() -> None:
    headers = request_headers(
        scope_with(
            (b"x-mainstay-client-address", b"127.0.0.1"),
            (b"x-mainstay-anything", b"x"),
            (b"x_mainstay_raw_path", b"/admin"),
            (b"private_token", b"x"),
            (b"private-token", b"kept"),
        )
    )
    assert headers["X-Mainstay-Client-Address"] == "203.0.113.9"
    assert headers.getall("X-Mainstay-Raw-Path") == ["/a%2Fb"]
    assert "x-mainstay-anything" not in headers
    assert not [name for name in headers if "_" in name]
    assert headers["private-token"] == "kept"


def test_headers_of_one_connection_stay_on_it() -> None:
    headers = request_headers(
        scope_with(
            (b"connection", b"keep-alive, X-Secret-Hop"),
            (b"x-secret-hop", b"1"),
            (b"transfer-encoding", b"chunked"),
            (b"upgrade", b"h2c"),
            (b"expect", b"100-continue"),
            (b"accept", b"*/*"),
        )
    )
    assert {name.lower() for name in headers if not name.startswith("X-Mainstay-")} == {"accept"}


def test_the_query_arrives_as_it_was_sent() -> None:
    assert (
        request_headers(scope_with(query=b"a=%2F&b=+%zz&c=%"))["X-Mainstay-Raw-Query"] == "a=%2F&b=+%zz&c=%"
    )


def test_who_serves_behind_us_is_nobodys_business() -> None:
    kept = answer_headers([(b"Server", b"x"), (b"Date", b"y"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")])
    assert kept == [(b"set-cookie", b"a"), (b"set-cookie", b"b")]


def read_all(messages: list[dict[str, Any]]) -> Body:
    pending = iter(messages)

    async def receive() -> Any:
        return next(pending)

    body = Body({"headers": [(b"content-length", b"1")]}, receive)

    async def read() -> None:
        async for _ in body.chunks():
            pass

    try:
        asyncio.run(read())
    except OSError:
        return body
    return body


def test_a_body_that_is_too_long_is_refused_with_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_BODY_BYTES_MAX", 10)
    chunk = {"type": "http.request", "body": b"123456", "more_body": True}
    assert read_all([chunk, {**chunk, "more_body": False}]).refused == 413
    assert read_all([{**chunk, "more_body": False}]).refused == 0


def test_a_body_that_does_not_come_is_refused_with_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_BODY_SILENCE_S_MAX", 0.0)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def read() -> int:
        body = Body({"headers": [(b"content-length", b"1")]}, receive)
        with pytest.raises(TimeoutError):
            await anext(body.chunks())
        return body.refused

    assert asyncio.run(read()) == 408
