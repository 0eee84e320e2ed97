"""What Django gets to see of a request that came through the data plane."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pytest

from mainstay.boot import wsgi


def seen(monkeypatch: pytest.MonkeyPatch, body: bytes, **environ: str) -> tuple[dict[str, Any], bytes]:
    """The environment that the application is called with, and the body it reads by its stated length."""
    monkeypatch.setattr(wsgi, "CHUNKED_BYTES_MAX", 10)
    got: dict[str, Any] = {}

    def application(given: dict[str, Any], _start: Any) -> Iterable[bytes]:
        got.update(given)
        return [given["wsgi.input"].read(int(given.get("CONTENT_LENGTH") or 0))]

    answer = wsgi.with_truth_restored(application)({"wsgi.input": BytesIO(body), **environ}, None)
    return got, b"".join(answer)


def test_path_query_client_and_scheme_are_those_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    got, _ = seen(
        monkeypatch,
        b"",
        HTTP_X_MAINSTAY_RAW_PATH="/a%2Fb",
        HTTP_X_MAINSTAY_RAW_QUERY="c=%20",
        HTTP_X_MAINSTAY_CLIENT_ADDRESS="192.0.2.1",
        HTTP_X_MAINSTAY_SCHEME="https",
    )
    assert (got["PATH_INFO"], got["QUERY_STRING"]) == ("/a%2Fb", "c=%20")
    assert (got["REMOTE_ADDR"], got["wsgi.url_scheme"]) == ("192.0.2.1", "https")
    assert not any(name.startswith("HTTP_X_MAINSTAY") for name in got)


def test_a_chunked_body_gets_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    got, read = seen(monkeypatch, b"12345", HTTP_TRANSFER_ENCODING="chunked")
    assert (got["CONTENT_LENGTH"], read) == ("5", b"12345")


def test_a_chunked_body_beyond_the_limit_is_seen_to_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    got, read = seen(monkeypatch, b"x" * 1000, HTTP_TRANSFER_ENCODING="chunked")
    assert (got["CONTENT_LENGTH"], len(read)) == ("11", 11)


def test_a_body_that_says_its_length_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    got, read = seen(monkeypatch, b"12345", CONTENT_LENGTH="3")
    assert (got["CONTENT_LENGTH"], read) == ("3", b"123")
