"""Managed PostgreSQL servers for tests: where their account may enter, with certificates of one authority.

server = managed.server(roomy_path / "a")          with support.managed.roomy_path as a fixture
authority = SiteAuthority(roomy_path / "tls"); authority.credentials("site-a")
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mainstay.provision.accounts import server_account
from mainstay.provision.postgresql import Credentials, PostgresqlMissing, Server, postgresql_programs
from support.servers import skip_missing

_MEMORY_BYTES = 512 * 1024**2


_IN_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 * 1024**3


@contextmanager
def roomy_directory(*, on_disk: bool = False) -> Iterator[Path]:
    """One that others may pass through, unlike `tmp_path`; short, because sockets are in it."""
    has_room = not on_disk and _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _ROOM_BYTES
    directory = Path(tempfile.mkdtemp(prefix="managed-", dir=_IN_MEMORY if has_room else None))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def roomy_path() -> Iterator[Path]:
    with roomy_directory() as directory:
        yield directory


def require_postgresql() -> None:
    """Skips the test (or fails, in CI) where none is installed."""
    try:
        postgresql_programs()
    except PostgresqlMissing as error:
        skip_missing("PostgreSQL", str(error))


def server(directory: Path) -> Server:
    """Not made yet. Small, whatever the machine is."""
    require_postgresql()
    return Server(
        directory / "postgresql", directory / "run", account=server_account(), memory_bytes=_MEMORY_BYTES
    )


def server_in(data: Path) -> Server:
    """The one that the node in this data directory runs."""
    return Server(data / "postgresql", data / "run" / "postgresql", account=server_account())


class SiteAuthority:
    """An authority, and the certificates that it signs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Authority of a test")
        basic = x509.BasicConstraints(ca=True, path_length=0)
        made = self._builder(self._name, self._key).add_extension(basic, critical=True)
        self.file = directory / "authority.pem"
        self.file.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def credentials(self, site: str, *, made_out_to: str = "") -> Credentials:
        """Of a site, good for 127.0.0.1 as server, and as client."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(made_out_to or site), x509.IPAddress(ip_address("127.0.0.1"))]
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            self._builder(_name(site), key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate, key_file = self._directory / f"{site}.pem", self._directory / f"{site}.key"
        certificate.write_bytes(_pem(made))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return Credentials(certificate=certificate, key=key_file, authority=self.file)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=2))
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
