"""What proxies say about a request, and how much of it to believe. Pure functions."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from mainstay.boot.parsing import Networks
from mainstay.foundation.ip import plain_text

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOPS_MAX = 32


def is_request_id(text: str) -> bool:
    """Fit for a log line and a header; anything else is replaced."""
    return _REQUEST_ID.fullmatch(text) is not None


def is_trusted(address: str, networks: Networks) -> bool:
    parsed = parse_address(address)
    return parsed is not None and any(parsed in network for network in networks)


def client_address(peer: str, forwarded: Sequence[bytes], trusted: Networks) -> str:
    """The right-most address that is not one of our proxies; the peer when it is not one itself.

    Whatever stands further left was written by somebody we do not trust. An entry that is no address ends
    the walk: the hop before it is the last one we know.
    """
    peer = plain_text(peer)
    if not is_trusted(peer, trusted):
        return peer
    known = peer
    for hop in _hops(forwarded):
        address = parse_address(hop)
        if address is None:
            return known
        known = str(address)
        if not is_trusted(hop, trusted):
            return known
    return known


def scheme_of(forwarded: bytes, own: str) -> str:
    last = forwarded.split(b",")[-1].strip().lower()
    return last.decode() if last in (b"http", b"https") else own


@lru_cache(maxsize=4096)
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address, an IPv4 one mapped into IPv6 as IPv4; None when it is none."""
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _hops(forwarded: Sequence[bytes]) -> list[str]:
    """Nearest first. Several headers are one list, in order."""
    parts = b",".join(forwarded).split(b",")[-_HOPS_MAX:]
    return [part.strip().decode("latin-1") for part in reversed(parts)]
