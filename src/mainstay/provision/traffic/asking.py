"""Ask a name server that the world asks: is it there, and how far is it?"""

import socket

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rdatatype

from mainstay.provision.traffic.records import plain_name
from mainstay.provision.traffic.zones import EXCHANGE_S_MAX, NameServer

_PORT = 53


def serial_at(name: str, *, zone: str, address: str = "", port: int = _PORT) -> NameServer:
    """The serial number of the zone there. Without an address this machine looks for one."""
    query = dns.message.make_query(dns.name.from_text(zone), "SOA", flags=0)
    try:
        where = address or addresses_of(name)[0]
        answer, _ = dns.query.udp_with_fallback(query, where, timeout=EXCHANGE_S_MAX, port=port)
    except (OSError, EOFError, dns.exception.DNSException) as error:
        return NameServer(plain_name(name), None, f"does not answer: {error or type(error).__name__}")
    serials = [each.serial for rrset in answer.answer for each in rrset if each.rdtype == dns.rdatatype.SOA]
    if not serials:
        return NameServer(plain_name(name), None, f"does not have the zone {plain_name(zone)}")
    return NameServer(plain_name(name), serials[0])


def addresses_of(host: str) -> list[str]:
    """At least one. Raises `OSError` when there is none."""
    return [
        str(place[0])
        for *_, place in socket.getaddrinfo(host.removesuffix("."), None, type=socket.SOCK_STREAM)
    ]
