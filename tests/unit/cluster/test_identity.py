"""Certificates between nodes: whom a client believes, and how a renewed one comes into use."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mainstay.cluster.authority import LIFE, RENEW_AFTER, Authority, authority_of
from mainstay.cluster.identity import IdentityUnusable, NodeIdentity, ensure_certificate, server_name_of
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.ids import new_ulid

NAMES = ["10.0.0.7", "node2.example.org"]
NOW_MS = SYSTEM.now_ms()


@dataclass
class SecretsInMemory:
    """As `Secrets`, in a dictionary."""

    kept: dict[str, str] = field(default_factory=dict)
    made_ms: int = 1

    def ensure(self, name: str, make: Callable[[], str]) -> str:
        return self.kept.setdefault(name, self.kept.get(name) or make())

    def created_ms(self, name: str) -> int | None:
        return self.made_ms if name in self.kept else None


@pytest.fixture
def secrets() -> SecretsInMemory:
    return SecretsInMemory()


@pytest.fixture
def node(tmp_path: Path, secrets: SecretsInMemory) -> NodeIdentity:
    identity = NodeIdentity(new_ulid(), tmp_path)
    assert ensure_certificate(identity, secrets, NAMES, now_ms=NOW_MS)
    return identity


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """A whole handshake in memory; returns the client's side. Raises `ssl.SSLError`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        done = [_step(ours), _step(theirs)]
        if all(done):
            return ours
    raise AssertionError("the handshake does not end")


def _step(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def strict(node: NodeIdentity) -> ssl.SSLContext:
    """As newer Pythons verify by default."""
    context = node.client_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.mark.parametrize("name", ["", *NAMES])
def test_a_node_is_known_by_its_id_and_by_its_addresses(node: NodeIdentity, name: str) -> None:
    line = shake_hands(node.server_context(), strict(node), name or node.server_name)
    assert line.version() == "TLSv1.3"


@pytest.mark.parametrize(
    "name", [server_name_of("01JD6Q9Z4M8W3N5V7X2Y1B0CDE"), "10.0.0.8", "node3.example.org"]
)
def test_another_node_is_not_taken_for_it(node: NodeIdentity, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(node.server_context(), node.client_context(), name)


def test_nodes_of_another_cluster_are_not_believed(node: NodeIdentity, tmp_path: Path) -> None:
    stranger = NodeIdentity(node.node_id, tmp_path / "stranger")
    stranger.data.mkdir()
    assert ensure_certificate(stranger, SecretsInMemory(), NAMES, now_ms=NOW_MS)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(stranger.server_context(), node.client_context(), node.server_name)


def test_all_nodes_of_a_cluster_have_one_authority(
    node: NodeIdentity, secrets: SecretsInMemory, tmp_path: Path
) -> None:
    other = NodeIdentity(new_ulid(), tmp_path / "other")
    other.data.mkdir()
    ensure_certificate(other, secrets, [], now_ms=NOW_MS)
    assert shake_hands(other.server_context(), node.client_context(), other.server_name).version()
    assert other.authority_file.read_bytes() == node.authority_file.read_bytes()


def test_files_are_the_owners_alone(node: NodeIdentity) -> None:
    for file in (node.certificate_file, node.authority_file, node.facts_file):
        assert file.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" in node.certificate_file.read_bytes()
    assert b"PRIVATE KEY" not in node.authority_file.read_bytes()


def test_it_is_renewed_after_two_thirds_of_its_life(node: NodeIdentity, secrets: SecretsInMemory) -> None:
    later_ms = NOW_MS + int(RENEW_AFTER.total_seconds() * 1000)
    assert not ensure_certificate(node, secrets, NAMES, now_ms=later_ms - 2000)
    assert ensure_certificate(node, secrets, NAMES, now_ms=later_ms)
    assert RENEW_AFTER.days == 20
    assert LIFE.days == 30


def test_other_names_a_lost_file_or_another_authority_make_a_new_one(
    node: NodeIdentity, secrets: SecretsInMemory
) -> None:
    def is_made_anew(names: list[str]) -> bool:
        return ensure_certificate(node, secrets, names, now_ms=NOW_MS)

    assert not is_made_anew(NAMES)
    assert is_made_anew(["10.0.0.9"])
    node.certificate_file.unlink()
    assert is_made_anew(["10.0.0.9"])
    node.facts_file.write_text("broken")
    assert is_made_anew(["10.0.0.9"])
    secrets.made_ms += 1
    assert is_made_anew(["10.0.0.9"])
    assert not is_made_anew(["10.0.0.9"])


def test_a_running_server_shows_the_renewed_certificate(node: NodeIdentity, secrets: SecretsInMemory) -> None:
    server, client = node.server_context(), node.client_context()

    def serial() -> object:
        shown = shake_hands(server, client, node.server_name).getpeercert()
        assert shown is not None
        return shown["serialNumber"]

    before = serial()
    assert serial() == before
    ensure_certificate(node, secrets, ["10.0.0.9"], now_ms=NOW_MS)
    assert serial() != before


def test_a_broken_file_does_not_end_a_running_server(node: NodeIdentity) -> None:
    server = node.server_context()
    node.certificate_file.write_bytes(b"half")
    assert shake_hands(server, node.client_context(), node.server_name).version()
    with pytest.raises(IdentityUnusable, match=r"node\.pem"):
        node.server_context()


def test_an_expired_certificate_is_refused(node: NodeIdentity, secrets: SecretsInMemory) -> None:
    long_ago_ms = NOW_MS - int(LIFE.total_seconds() * 1000) - 60_000
    secrets.made_ms += 1
    assert ensure_certificate(node, secrets, NAMES, now_ms=long_ago_ms)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(node.server_context(), node.client_context(), node.server_name)


def test_old_protocols_are_refused(node: NodeIdentity) -> None:
    assert node.server_context().minimum_version == ssl.TLSVersion.TLSv1_2
    assert node.client_context().minimum_version == ssl.TLSVersion.TLSv1_2
    assert node.client_context().verify_mode == ssl.CERT_REQUIRED


def test_the_authority_is_made_once(secrets: SecretsInMemory) -> None:
    first, second = (authority_of(secrets, now_ms=NOW_MS) for _ in range(2))
    assert isinstance(first, Authority)
    assert first.certificate_pem == second.certificate_pem
