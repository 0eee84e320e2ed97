"""From text to values."""

import pytest

from mainstay.boot import parsing
from mainstay.boot.parsing import Address
from mainstay.foundation.errors import Invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:22", Address("::1", 22)),
        (":80", Address("0.0.0.0", 80)),
        ("localhost:0", Address("localhost", 0)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parsing.address(text) == expected
    assert parsing.address(str(expected)) == expected


@pytest.mark.parametrize("text", ["", "8080", "host", "host:", "host:-1", "host:65536", "::1:22", "h:²"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Invalid, match=r"\[::1\]:8080"):
        parsing.address(text)


@pytest.mark.parametrize("text", ["sqlite://relative.db", "sqlite:///", "mysql://x", "", "/a/path"])
def test_databases_we_do_not_speak_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parsing.database_url(text)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "example.org", "1.2.3"])
def test_networks_are_addresses_or_blocks(text: str) -> None:
    with pytest.raises(Invalid, match=r"10\.0\.0\.0/16"):
        parsing.networks(f"127.0.0.1,{text}")


def test_an_external_url_loses_its_last_slash() -> None:
    assert parsing.external_url("https://git.example.org/") == "https://git.example.org"
    for bad in ("git.example.org", "ftp://x", "https://"):
        with pytest.raises(Invalid):
            parsing.external_url(bad)
