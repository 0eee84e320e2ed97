"""TLS that this node ends itself: one certificate, read again when its files change.

A pair that cannot be used is said at the start, and later keeps the old one in use: a renewal that went
wrong must not take the node down.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

from mainstay.boot.settings import NodeSettings
from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import get_logger

log = get_logger()

_LOOK_S = 1.0


class BadCertificate(Invalid):
    """The certificate or its key cannot be used; the message says which file and why."""


class Certificate:
    """Gives each new connection the context to use."""

    def __init__(
        self, certificate: Path, key: Path, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = (certificate, key)
        self._monotonic_s = monotonic_s
        self._seen = self._look()
        self._context = context_of(certificate, key)
        self._looked_s = monotonic_s()

    def context(self) -> ssl.SSLContext:
        """The newest that is usable. Looks at the files once a second at most."""
        if self._monotonic_s() - self._looked_s >= _LOOK_S:
            self._looked_s = self._monotonic_s()
            self._refresh()
        return self._context

    def _refresh(self) -> None:
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._context = context_of(*self._files)
        except BadCertificate as error:
            log.error("boot.certificate_not_replaced", reason=str(error))  # noqa: TRY400 - a known error, no trace
        else:
            log.info("boot.certificate_replaced", certificate=str(self._files[0]))

    def _look(self) -> list[tuple[int, int, int] | None]:
        """What changes when a file does; a link that is pointed elsewhere, too."""
        return [_marks(file) for file in self._files]


def certificate_of(settings: NodeSettings) -> Certificate:
    """The certificate that the settings name. Raises `BadCertificate`."""
    return Certificate(Path(settings.tls_certificate), Path(settings.tls_key))


def context_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """For the server's side: TLS 1.2 or newer, HTTP/1.1. Raises `BadCertificate`."""
    for option, file in (("tls_certificate", certificate), ("tls_key", key)):
        _must_be_readable(option, file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except ssl.SSLError as error:
        raise BadCertificate(_why(error, certificate, key)) from error
    return context


def _must_be_readable(option: str, file: Path) -> None:
    try:
        file.read_bytes()
    except OSError as error:
        raise BadCertificate(f"{option}: cannot read {file}: {error.strerror}") from error


def _no_passphrase() -> str:
    """OpenSSL would ask at the terminal, in the middle of a start that nobody watches."""
    return ""


def _why(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"tls_key: {key} is not the key of {certificate}"
    return (
        f"tls_certificate {certificate} and tls_key {key} are no PEM certificate and key"
        f" without a passphrase: {error.reason or error}"
    )


def _marks(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
