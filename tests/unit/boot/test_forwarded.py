"""Who is calling, as far as proxies can be believed."""

import pytest

from mainstay.boot.forwarded import client_address, is_request_id, scheme_of
from mainstay.boot.parsing import networks

PROXIES = networks("10.0.0.0/8, ::1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [b"1.2.3.4"], "203.0.113.9"),  # a stranger may claim what they like
        ("10.0.0.1", [b"1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"6.6.6.6, 1.2.3.4"], "1.2.3.4"),  # what is left of the client is the client's word
        ("10.0.0.1", [b"1.2.3.4, 10.0.0.2"], "1.2.3.4"),  # two proxies of ours
        ("10.0.0.1", [b"6.6.6.6", b"1.2.3.4"], "1.2.3.4"),  # two headers are one list
        ("10.0.0.1", [b"1.2.3.4, rubbish"], "10.0.0.1"),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("::ffff:10.0.0.1", [b"2001:db8::1"], "2001:db8::1"),
        ("::ffff:203.0.113.9", [b"1.2.3.4"], "203.0.113.9"),  # one client, one spelling
        ("10.0.0.1", [b"::ffff:1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", [b"2001:DB8:0::1"], "2001:db8::1"),
        ("10.0.0.1", [b"1.2.3.4:5678"], "10.0.0.1"),  # an address with a port is no address
        ("10.0.0.1", [b"unknown"], "10.0.0.1"),
        ("", [b"1.2.3.4"], ""),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_proxy(
    peer: str, forwarded: list[bytes], expected: str
) -> None:
    assert client_address(peer, forwarded, PROXIES) == expected


def test_a_request_id_is_short_and_plain_or_replaced() -> None:
    assert is_request_id("01M7YKG55SAT21YRD01S5G33QS")
    for bad in ("", "a" * 65, "a b", "a\nb", "é", "a;b"):
        assert not is_request_id(bad)


def test_only_known_schemes_are_believed() -> None:
    assert scheme_of(b"https", "http") == "https"
    assert scheme_of(b"http, HTTPS", "http") == "https"
    assert scheme_of(b"javascript", "http") == "http"
    assert scheme_of(b"", "https") == "https"
