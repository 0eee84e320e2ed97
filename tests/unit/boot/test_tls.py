"""The node's certificate: read again when it changes, kept when the new one is of no use."""

from pathlib import Path

import pytest

from mainstay.boot.tls import BadCertificate, Certificate, context_of
from support.certificates import make_certificate


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 2.0
        return self.now_s


def test_a_changed_certificate_is_used_from_the_next_connection_on(tmp_path: Path) -> None:
    certificate = Certificate(*make_certificate(tmp_path), monotonic_s=Clock())
    first = certificate.context()
    assert certificate.context() is first
    make_certificate(tmp_path)
    assert certificate.context() is not first


def test_files_are_looked_at_once_a_second_at_most(tmp_path: Path) -> None:
    certificate = Certificate(*make_certificate(tmp_path), monotonic_s=lambda: 7.0)
    first = certificate.context()
    make_certificate(tmp_path)
    assert certificate.context() is first


def test_an_unusable_new_pair_leaves_the_old_one_in_use_until_it_is_mended(tmp_path: Path) -> None:
    files = make_certificate(tmp_path)
    certificate = Certificate(*files, monotonic_s=Clock())
    first = certificate.context()
    files[1].unlink()
    assert certificate.context() is first
    make_certificate(tmp_path / "other")
    files[1].write_bytes((tmp_path / "other" / "key.pem").read_bytes())
    assert certificate.context() is first
    files[0].write_bytes((tmp_path / "other" / "cert.pem").read_bytes())
    assert certificate.context() is not first


def test_a_key_that_wants_a_passphrase_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    certificate, key = make_certificate(tmp_path)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(BadCertificate, match="without a passphrase"):
        context_of(certificate, key)
