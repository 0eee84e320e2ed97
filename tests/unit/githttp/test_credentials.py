"""Reading the `Authorization` header."""

from base64 import b64encode

import pytest

from mainstay.doors.githttp.credentials import MalformedCredentials, credentials_of
from mainstay.product.projects.admission import NOBODY, Bearer, UserAndSecret


def basic(pair: bytes) -> bytes:
    return b"Basic " + b64encode(pair)


def read(*values: bytes) -> object:
    return credentials_of([(b"host", b"x"), *((b"authorization", value) for value in values)])


def test_no_header_means_nobody() -> None:
    assert read() == NOBODY


def test_basic_is_split_at_the_first_colon() -> None:
    assert read(basic(b"ada:a:b")) == UserAndSecret("ada", "a:b")
    assert read(basic("ada:grün".encode())) == UserAndSecret("ada", "grün")
    assert read(b"bAsIc  " + b64encode(b":")) == UserAndSecret("", "")


def test_bearer_is_a_token() -> None:
    assert read(b"Bearer glpat-x") == Bearer("glpat-x")


@pytest.mark.parametrize(
    "value",
    [
        b"Basic",
        b"Basic !!!",
        b"Basic YWRh",
        basic(b"ada:\xff"),
        basic(b"ada:a\nb"),
        basic(b"ada\x00:a"),
        b"Digest x",
        b"",
        b"Bearer \xff",
        b"Basic " + b"A" * 9000,
    ],
)
def test_what_cannot_be_read_is_refused(value: bytes) -> None:
    with pytest.raises(MalformedCredentials):
        read(value)


def test_two_headers_are_refused() -> None:
    with pytest.raises(MalformedCredentials):
        read(basic(b"ada:right"), basic(b"eve:right"))


def test_secrets_do_not_show_themselves() -> None:
    assert "hunter2" not in repr(read(basic(b"ada:hunter2")))
    assert "hunter2" not in repr(read(b"Bearer hunter2"))
