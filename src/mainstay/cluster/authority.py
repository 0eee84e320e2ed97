"""The built-in certificate authority: who a node is, in TLS.

One CA for the whole cluster (ECDSA P-256, which every OpenSSL verifies), kept as a wrapped secret. Every
node can open it, so each issues its own certificate, for `<node id>.node.mainstay.internal` and the names
and addresses it is reached by. Such a certificate lives for thirty days and is renewed after twenty; the
loss of a certificate is no event, and there is no list of revoked ones: a node that is expelled is kept out
by a new master key and new tokens.

Another site is let in by a certificate with which it is client and server (`issue_for_site`). Those are in
the database by their serials (`cluster.sites.registry`), and can be revoked: there for the line between
sites, and by a list (`crl_pem`) for PostgreSQL, which asks nobody.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mainstay.cluster.secrets import AUTHORITY, Secrets
from mainstay.foundation.errors import Conflict
from mainstay.foundation.logs import get_logger

log = get_logger()

LIFE: Final = timedelta(days=30)
RENEW_AFTER: Final = LIFE * 2 / 3

_CA_LIFE = timedelta(days=3650)
_LIST_LIFE = timedelta(days=3650)
"""OpenSSL refuses everybody once a list of revoked certificates has ended, so this one does not."""
_BACKDATED = timedelta(hours=1)
"""A peer whose clock is behind must not find the certificate not valid yet."""


class AuthorityUnreadable(Conflict):
    """What is kept as the certificate authority is none."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate of a node or site, with its key and the CA that vouches for it, as PEM."""

    certificate: bytes
    key: bytes
    authority: bytes
    serial: str
    """Lower-case hex."""
    renew_at_ms: int
    expires_ms: int


class Authority:
    """The CA of the cluster, opened."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @property
    def certificate_pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, also: Sequence[str], *, now_ms: int) -> Issued:
        """A fresh key and a certificate for `name`, and for the host names and addresses in `also`."""
        return self._issue(name, also, [ExtendedKeyUsageOID.SERVER_AUTH], now_ms=now_ms)

    def issue_for_site(self, name: str, *, now_ms: int) -> Issued:
        """The same for a site, which is a client of others, too. Not good before the registry has it."""
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(name, [], both, now_ms=now_ms)

    def crl_pem(self, revoked: Mapping[str, int], *, now_ms: int) -> bytes:
        """The list of revoked certificates, as PEM: serials, and when each was revoked."""
        now = _at(now_ms)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _BACKDATED)
            .next_update(now + _LIST_LIFE)
            .add_extension(_issuer_of(self._certificate), critical=False)
        )
        for serial, revoked_ms in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
            builder = builder.add_revoked_certificate(entry.revocation_date(_at(revoked_ms)).build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue(
        self, name: str, also: Sequence[str], uses: Sequence[x509.ObjectIdentifier], *, now_ms: int
    ) -> Issued:
        now = _at(now_ms)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(name, self._certificate.subject, key, now=now, life=LIFE)
            .add_extension(x509.SubjectAlternativeName(_names(name, also)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(_issuer_of(self._certificate), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            key=_key_pem(key),
            authority=self.certificate_pem,
            serial=f"{certificate.serial_number:x}",
            renew_at_ms=_ms(now + RENEW_AFTER),
            expires_ms=_ms(now + LIFE),
        )


def authority_of(secrets: Secrets, *, now_ms: int) -> Authority:
    """The CA of the cluster, made now if nobody has asked before. Raises `AuthorityUnreadable`."""
    kept = secrets.ensure(AUTHORITY, lambda: _new(now_ms))
    try:
        parts = json.loads(kept)
        key = serialization.load_pem_private_key(parts["key"].encode(), password=None)
        certificate = x509.load_pem_x509_certificate(parts["certificate"].encode())
    except (ValueError, KeyError, TypeError) as error:
        raise AuthorityUnreadable(f"secret {AUTHORITY!r} cannot be read: {error}") from error
    return Authority(_elliptic(key), certificate)


def _elliptic(key: PrivateKeyTypes) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityUnreadable(f"secret {AUTHORITY!r} holds a key of another kind")
    return key


def _new(now_ms: int) -> str:
    """A key and a certificate that it signs itself, in one secret: two would not come from one maker."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Mainstay cluster authority")])
    certificate = (
        _builder("Mainstay cluster authority", name, key, now=_at(now_ms), life=_CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return json.dumps({"key": _key_pem(key).decode(), "certificate": pem})


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _names(name: str, also: Sequence[str]) -> list[x509.GeneralName]:
    return [x509.DNSName(name), *(_general(each) for each in dict.fromkeys(also) if each and each != name)]


def _general(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _issuer_of(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _at(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, tz=UTC)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
