"""A site's own certificate, in `DATA/tls/site.pem`: with it a site speaks to others.

It is issued by the primary, which notes its serial; a copy of the CA's key is of no use to who was removed.
The file is replaced whole, so no handshake sees half of it, and read again when it changes.
"""

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mainstay.foundation.errors import Unavailable
from mainstay.foundation.private_files import make_private_directory, replace_file

if TYPE_CHECKING:
    from mainstay.cluster.authority import Issued  # the module imports a crypto library

DOMAIN: Final = "site.mainstay.internal"


class SiteIdentityUnusable(Unavailable):
    """The files are missing or broken."""


def server_name_of(site_id: str) -> str:
    """The name by which every node of the site answers on the line between sites."""
    return f"{site_id.lower()}.{DOMAIN}"


def site_id_in(name: str) -> str | None:
    """The inverse; None for the name of anything else."""
    site_id, dot, rest = name.partition(".")
    return site_id.upper() if dot and rest == DOMAIN else None


@dataclass(frozen=True, slots=True)
class SiteIdentity:
    """The files. Nothing is touched by asking."""

    data: Path

    @property
    def certificate_file(self) -> Path:
        """PEM: the certificate, then its key."""
        return self.data / "tls" / "site.pem"

    @property
    def authority_file(self) -> Path:
        """PEM: the CA that both ends believe; the same file as that of the node."""
        return self.data / "tls" / "ca.pem"

    @property
    def facts_file(self) -> Path:
        return self.data / "tls" / "site.json"

    def keep(self, issued: "Issued") -> None:
        """Put a certificate in the place of the last one, to stay."""
        make_private_directory(self.data / "tls")
        facts = {
            "serial": issued.serial,
            "renew_at_ms": issued.renew_at_ms,
            "expires_ms": issued.expires_ms,
        }
        replace_file(self.authority_file, issued.authority, durable=True)
        replace_file(self.certificate_file, issued.certificate + issued.key, durable=True)
        replace_file(self.facts_file, json.dumps(facts).encode(), durable=True)

    def is_due(self, *, now_ms: int) -> bool:
        """Whether it must be renewed: there is none, or two thirds of its life are over."""
        try:
            facts = json.loads(self.facts_file.read_text())
            return bool(now_ms >= int(facts["renew_at_ms"])) or not self.certificate_file.exists()
        except (OSError, ValueError, KeyError, TypeError):
            return True

    def client_context(self) -> ssl.SSLContext:
        """For a client of other sites: shows the certificate, believes only the CA, checks the name."""
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.authority_file))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(self.certificate_file)
        except (OSError, ssl.SSLError) as error:
            raise SiteIdentityUnusable(f"cannot use {self.certificate_file}: {error}") from error
        return context
