"""IP addresses as text: one client has one spelling, so that bans and logs know it again."""

from ipaddress import IPv4Address, IPv6Address, ip_address

_MAPPED = "::ffff:"
"""How IPv4 looks on a socket that listens for both."""


def plain(address: IPv4Address | IPv6Address) -> str:
    """As text; an IPv4 address mapped into IPv6 is written as IPv4, because it is one and the same client."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def plain_text(text: str) -> str:
    """The same for text that a socket gave."""
    return plain(ip_address(text)) if text.startswith(_MAPPED) else text
