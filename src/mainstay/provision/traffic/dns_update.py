"""Records on any name server that takes updates (RFC 2136), signed with a TSIG key.

An update names what must still be true (the record and its mark as they were found), and the server checks
that and changes both in one step. So of two sites that update at once one is told that it came too late.

Everything goes by TCP, to the one server that takes updates, and is signed in both directions: also what is
read here cannot have been forged on the way.
"""

import socket
from collections.abc import Iterable
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update

from mainstay.provision.traffic.asking import addresses_of, serial_at
from mainstay.provision.traffic.credentials import TsigKey
from mainstay.provision.traffic.records import Found, Record, Wanted, is_inside, plain_name, plain_value
from mainstay.provision.traffic.zones import (
    EXCHANGE_S_MAX,
    ChangedMeanwhile,
    DnsAway,
    DnsRefused,
    NameServer,
    ZoneMismatch,
)

_ADDRESSES_MAX = 4
_NAME_SERVERS_MAX = 16
_NO_ADDRESS = {"A": "192.0.2.255", "AAAA": "2001:db8::ffff", "CNAME": "nothing.invalid."}
"""Kept for documentation (RFC 5737, 3849, 2606): nobody's record."""
_NO_MARK = "mainstay rehearsal"
_NOT_AS_FOUND = frozenset({dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rfc2136Zone:
    """One zone on one server."""

    host: str
    port: int
    zone: str
    key: TsigKey

    def look(self, record: Record) -> Found:
        if not is_inside(record.name, self.zone):
            raise ZoneMismatch(f"{record.name} is not in the zone {self.zone}: see dns_zone")
        values, ttl_s = self._records(record.name, record.type)
        marks, mark_ttl_s = self._records(record.mark_name, "TXT")
        return Found(values=values, ttl_s=ttl_s, marks=marks, mark_ttl_s=mark_ttl_s)

    def replace(self, record: Record, found: Found, wanted: Wanted) -> str:
        update = self._update_if(record, found)
        name, mark_name = dns.name.from_text(record.name), dns.name.from_text(record.mark_name)
        update.replace(name, wanted.ttl_s, record.type, *_dotted(record, wanted.values))
        update.replace(mark_name, wanted.ttl_s, "TXT", f'"{wanted.mark}"')
        self._send(update, record)
        return ""

    def rehearse(self, record: Record, found: Found) -> None:
        """Take away what is not there, both from the record and from its mark: nothing changes."""
        update = self._update_if(record, found)
        nobody = next(iter(_dotted(record, [_NO_ADDRESS[record.type]])))
        update.delete(dns.name.from_text(record.name), record.type, nobody)
        update.delete(dns.name.from_text(record.mark_name), "TXT", f'"{_NO_MARK}"')
        self._send(update, record)

    def name_servers(self) -> list[NameServer]:
        answer = self._ask(self.zone, "NS")
        names = [
            str(each.target) for rrset in answer.answer for each in rrset if each.rdtype == dns.rdatatype.NS
        ]
        return [self._look_at(name) for name in sorted(names)[:_NAME_SERVERS_MAX]]

    def _update_if(self, record: Record, found: Found) -> dns.update.UpdateMessage:
        """An update that is done only if record and mark are still what they were."""
        update = dns.update.UpdateMessage(dns.name.from_text(self.zone))
        marks = [f'"{each}"' for each in found.marks]
        conditions = [
            (record.name, record.type, _dotted(record, found.values)),
            (record.mark_name, "TXT", marks),
        ]
        for name, kind, values in conditions:
            absolute = dns.name.from_text(name)
            if values:
                update.present(absolute, kind, *values)
            else:
                update.absent(absolute, kind)
        return update

    # Exchanges
    def _records(self, name: str, kind: str) -> tuple[frozenset[str], int | None]:
        """Values and TTL as the server has them; nothing and None when there is no such record."""
        answer = self._ask(name, kind)
        wanted = dns.rdatatype.from_text(kind)
        for rrset in answer.answer:
            if rrset.name != dns.name.from_text(name):
                continue
            if rrset.rdtype == dns.rdatatype.CNAME and wanted != dns.rdatatype.CNAME:
                raise ZoneMismatch(
                    f"{name} is a CNAME on {self._server}, and so can have no {kind}: delete it there"
                )
            if rrset.rdtype == wanted:
                return frozenset(_plain(each.to_text(), kind) for each in rrset), rrset.ttl
        return frozenset(), None

    def _ask(self, name: str, kind: str) -> dns.message.Message:
        answer = self._exchange(dns.message.make_query(dns.name.from_text(name), kind, flags=0))
        code = answer.rcode()
        if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise self._refusal(code, f"to tell about {name}")
        if not answer.flags & dns.flags.AA:
            raise ZoneMismatch(
                f"{self._server} is not authoritative for {name}: it does not have the zone {self.zone}"
            )
        return answer

    def _send(self, update: dns.update.UpdateMessage, record: Record) -> None:
        code = self._exchange(update).rcode()
        if code in _NOT_AS_FOUND:
            raise ChangedMeanwhile(f"{record.name} was changed by somebody else just now")
        if code != dns.rcode.NOERROR:
            raise self._refusal(code, f"to change {record.name} with the key {self.key.name}")

    def _refusal(self, code: dns.rcode.Rcode, what: str) -> Exception:
        if code in (dns.rcode.NOTAUTH, dns.rcode.NOTZONE):
            return ZoneMismatch(
                f"{self._server} does not have the zone {self.zone}: see dns_zone and dns_server"
            )
        if code == dns.rcode.REFUSED:
            return DnsRefused(f"{self._server} refuses {what}")
        return DnsAway(f"{self._server} failed {what}: {dns.rcode.to_text(code)}")

    def _exchange(self, message: dns.message.Message) -> dns.message.Message:
        """Signed, by TCP, to the first address that takes the connection."""
        key = dns.tsig.Key(self.key.name, self.key.secret.reveal(), self.key.algorithm)
        message.use_tsig(key)
        try:
            with self._connection() as connection:
                return dns.query.tcp(message, "", timeout=EXCHANGE_S_MAX, sock=connection)
        except (dns.tsig.PeerBadTime, dns.tsig.BadTime) as error:
            raise DnsRefused(
                f"the clocks of this machine and of {self._server} differ too much for a signature"
            ) from error
        except dns.tsig.PeerBadKey as error:
            raise DnsRefused(f"{self._server} does not know the TSIG key {self.key.name!r}") from error
        except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadKey, dns.tsig.BadAlgorithm) as error:
            raise DnsRefused(
                f"{self._server} has another secret or algorithm for the TSIG key {self.key.name!r}"
            ) from error
        except dns.exception.Timeout as error:
            raise DnsAway(f"{self._server} did not answer within {EXCHANGE_S_MAX:.0f} s") from error
        except (OSError, EOFError) as error:
            raise DnsAway(f"{self._server} cannot be reached: {error or 'it hung up'}") from error
        except dns.exception.DNSException as error:
            raise DnsAway(f"{self._server} answers what nobody understands: {error}") from error

    def _connection(self) -> socket.socket:
        """The last error counts when no address takes it."""
        *others, last = addresses_of(self.host)[:_ADDRESSES_MAX]
        for address in others:
            try:
                return self._connected(address)
            except OSError:
                continue  # the next address of the same server
        return self._connected(last)

    def _connected(self, address: str) -> socket.socket:
        connection = socket.create_connection((address, self.port), timeout=EXCHANGE_S_MAX)
        connection.setblocking(False)  # dnspython waits for itself, and insists on that
        return connection

    @property
    def _server(self) -> str:
        return f"the name server {self.host}:{self.port}"

    # The servers that the world asks
    def _look_at(self, name: str) -> NameServer:
        """At the address that the zone itself has for it, if any: the world may not know it yet."""
        address = ""
        if is_inside(plain_name(name), self.zone):
            values, _ = self._records(plain_name(name), "A")
            address = min(values, default="")
        is_this_one = bool(address) and address in addresses_of(self.host)
        return serial_at(name, zone=self.zone, address=address, port=self.port if is_this_one else 53)


def _dotted(record: Record, values: Iterable[str]) -> list[str]:
    """As zone files have them: a name that ends with its dot."""
    return [f"{plain_name(each)}." if record.type == "CNAME" else each for each in values]


def _plain(text: str, kind: str) -> str:
    if kind == "TXT":
        return "".join(text.split('"')[1::2])
    return plain_value(text, kind)  # type: ignore[arg-type]  # the types of records, by now
