"""Who this node is to the others: its certificate in `DATA/tls`, and TLS contexts made from it.

The certificate and its key are one file, replaced whole, so no handshake sees one without the other. A
server context looks at the file before each handshake: a renewed certificate is served at once, without a
restart. A client context believes only the cluster's own CA, and checks the name of the very node it meant:
pass `server_name_of(node_id)` as `server_hostname`.

Loading costs little; making a certificate imports a crypto library, and happens once in twenty days.
"""

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mainstay.cluster.secrets import AUTHORITY, Secrets
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.private_files import make_private_directory, replace_file

log = get_logger()

DOMAIN: Final = "node.mainstay.internal"


class IdentityUnusable(Unavailable):
    """The files in `DATA/tls` are missing or broken; the next start makes them again."""


def server_name_of(node_id: str) -> str:
    """The name that the certificate of that node has, whatever its address is."""
    return f"{node_id.lower()}.{DOMAIN}"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The TLS side of one node. Paths only; files are read when a context is made."""

    node_id: str
    data: Path

    @property
    def server_name(self) -> str:
        return server_name_of(self.node_id)

    @property
    def certificate_file(self) -> Path:
        """PEM: the certificate, then its key."""
        return self.data / "tls" / "node.pem"

    @property
    def authority_file(self) -> Path:
        """PEM: the CA of the cluster."""
        return self.data / "tls" / "ca.pem"

    @property
    def facts_file(self) -> Path:
        """JSON: for which names it was issued and when it is to be renewed."""
        return self.data / "tls" / "node.json"

    def server_context(self) -> ssl.SSLContext:
        """For a server of this node; serves a renewed certificate from the next handshake on."""
        context = self._loaded()
        reloading = _Reloading(self, context)
        context.sni_callback = reloading.before_handshake
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client of other nodes: verifies the cluster's CA and the name; TLS 1.2 or later."""
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.authority_file))
        except (OSError, ssl.SSLError) as error:
            raise IdentityUnusable(f"cannot read {self.authority_file}: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate_file)
        except (OSError, ssl.SSLError) as error:
            raise IdentityUnusable(f"cannot use {self.certificate_file}: {error}") from error
        return context


class _Reloading:
    """Gives each handshake the certificate that is in the file by now."""

    def __init__(self, identity: NodeIdentity, context: ssl.SSLContext) -> None:
        self._identity = identity
        self._context = context
        self._seen = _state_of(identity.certificate_file)

    def before_handshake(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        """Openssl calls this with the client's hello, name or no name."""
        now = _state_of(self._identity.certificate_file)
        if now is not None and now != self._seen:
            try:
                self._context = self._identity._loaded()  # noqa: SLF001 - one module, one noun
            except IdentityUnusable as error:
                log.warning("cluster.certificate_not_reloaded", because=str(error))
            self._seen = now
        connection.context = self._context


def _state_of(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def is_due(identity: NodeIdentity, names: Sequence[str], *, authority_ms: int | None, now_ms: int) -> bool:
    """Whether a certificate must be made: there is none, or not of this authority, these names, this time."""
    try:
        facts = json.loads(identity.facts_file.read_text())
    except (OSError, ValueError):
        return True
    there = identity.certificate_file.exists() and identity.authority_file.exists()
    same = facts.get("names") == list(names) and facts.get("authority_ms") == authority_ms
    return not (there and same and now_ms < facts.get("renew_at_ms", 0))


def ensure_certificate(
    identity: NodeIdentity, secrets: Secrets, names: Sequence[str], *, now_ms: int
) -> bool:
    """Make or renew the certificate when it is due; say whether that was done. Blocks.

    `names` are the host names and addresses by which others may reach this node.
    """
    if not is_due(identity, names, authority_ms=secrets.created_ms(AUTHORITY), now_ms=now_ms):
        return False
    from mainstay.cluster.authority import authority_of  # noqa: PLC0415 - imports a crypto library

    issued = authority_of(secrets, now_ms=now_ms).issue(identity.server_name, names, now_ms=now_ms)
    facts = {
        "names": list(names),
        "authority_ms": secrets.created_ms(AUTHORITY),
        "renew_at_ms": issued.renew_at_ms,
        "expires_ms": issued.expires_ms,
    }
    make_private_directory(identity.data / "tls")
    replace_file(identity.authority_file, issued.authority)
    replace_file(identity.certificate_file, issued.certificate + issued.key)
    replace_file(identity.facts_file, json.dumps(facts).encode())
    log.info("cluster.certificate_issued", names=list(names), expires_ms=issued.expires_ms)
    return True
