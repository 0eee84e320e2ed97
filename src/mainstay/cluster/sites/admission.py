"""Letting a site in, once, by a token; and giving it new certificates while it is in.

What the site says about itself, its certificate and the used-up token are one transaction: a name that is
taken uses up no token, and a site that is on the list has a certificate that it was given. Asking again with
another token under the same id is a repair.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mainstay.cluster.joining import Bundle, check_form, seal, sealing_key, use_up
from mainstay.cluster.secrets import Secrets
from mainstay.cluster.sites.identity import server_name_of
from mainstay.cluster.sites.registry import (
    NotASite,
    Site,
    checked,
    put_certificate,
    put_site,
    revoked_serials,
)
from mainstay.foundation.clock import Clock
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import Database

if TYPE_CHECKING:
    from mainstay.cluster.authority import Authority, Issued  # the module imports a crypto library

log = get_logger()

_TEXTS: Final = ("id", "name", "kind", "mode", "sites_address", "database_address", "url")


def site_asked(said: object) -> Site:
    """What a site says about itself in its request. Raises `NotASite`."""
    if not isinstance(said, Mapping):
        raise NotASite("a replica says who it is: name, kind, mode, addresses")
    texts = {name: said[name] for name in _TEXTS if name in said}
    delay_s, patterns = said.get("delay_s", 0), said.get("patterns", [])
    if not all(isinstance(text, str) for text in texts.values()) or not {"id", "name"} <= texts.keys():
        raise NotASite("a replica says who it is: id and name are texts")
    if not isinstance(delay_s, int) or not isinstance(patterns, list):
        raise NotASite("delay_s is a whole number, and patterns are a list")
    facts: dict[str, Any] = {**texts, "delay_s": delay_s, "patterns": tuple(map(str, patterns))}
    return checked(Site(**facts))


def said_by(site: Site) -> dict[str, Any]:
    """The inverse, for who asks."""
    texts = {name: getattr(site, name) for name in _TEXTS}
    return {**texts, "delay_s": site.delay_s, "patterns": list(site.patterns)}


def admit(
    database: Database,
    secrets: Secrets,
    bundle: Bundle,
    site: Site,
    *,
    token_id: str,
    proof: str,
    at: str,
    clock: Clock,
) -> str:
    """Use the token up and return the bundle with the site's certificate, sealed for who holds the token.

    Raises `TokenRefused`, `NameTaken`, `NotASite`.
    """
    check_form("replica", token_id=token_id, proof=proof)
    authority = _authority(secrets, clock)
    with database.write() as tx:
        wrapping = use_up(tx, kind="replica", token_id=token_id, proof=proof, at=at)
        made = put_site(tx, site)
        issued = authority.issue_for_site(server_name_of(made.id), now_ms=clock.now_ms())
        put_certificate(tx, made.id, issued)
        key = sealing_key(secrets, token_id, wrapping)
    log.info("sites.let_in", site=made.name, site_id=made.id, kind=made.kind, mode=made.mode, address=at)
    return seal(key, token_id, replace(bundle, site={**bundle.site, **texts_of(issued), "id": made.id}))


def enlist(database: Database, secrets: Secrets, site: Site, *, clock: Clock) -> "Issued":
    """Put this very site on the list, as the primary does with itself, and give it a certificate."""
    authority = _authority(secrets, clock)
    with database.write() as tx:
        made = put_site(tx, site)
        issued = authority.issue_for_site(server_name_of(made.id), now_ms=clock.now_ms())
        put_certificate(tx, made.id, issued)
    log.info("sites.enlisted", site=made.name, site_id=made.id)
    return issued


def renewed(database: Database, secrets: Secrets, site_id: str, *, clock: Clock) -> "Issued":
    """A further certificate for a site that showed a good one."""
    issued = _authority(secrets, clock).issue_for_site(server_name_of(site_id), now_ms=clock.now_ms())
    with database.write() as tx:
        put_certificate(tx, site_id, issued)
    log.info("sites.certificate_renewed", site_id=site_id, expires_ms=issued.expires_ms)
    return issued


def crl_pem(database: Database, secrets: Secrets, *, clock: Clock) -> bytes:
    """The list of revoked certificates, for a server that cannot ask the registry: PostgreSQL."""
    return _authority(secrets, clock).crl_pem(revoked_serials(database), now_ms=clock.now_ms())


def texts_of(issued: "Issued") -> dict[str, str]:
    """For a bundle or an answer."""
    return {
        "certificate": issued.certificate.decode(),
        "key": issued.key.decode(),
        "authority": issued.authority.decode(),
        "serial": issued.serial,
        "renew_at_ms": str(issued.renew_at_ms),
        "expires_ms": str(issued.expires_ms),
    }


def issued_in(texts: Mapping[str, Any]) -> "Issued":
    """The inverse. Raises `NotASite`."""
    from mainstay.cluster.authority import Issued  # noqa: PLC0415 - imports a crypto library

    try:
        return Issued(
            certificate=str(texts["certificate"]).encode(),
            key=str(texts["key"]).encode(),
            authority=str(texts["authority"]).encode(),
            serial=str(texts["serial"]),
            renew_at_ms=int(texts["renew_at_ms"]),
            expires_ms=int(texts["expires_ms"]),
        )
    except (KeyError, ValueError) as error:
        raise NotASite(f"the answer of the primary has no usable certificate: {error!r}") from error


def _authority(secrets: Secrets, clock: Clock) -> "Authority":
    from mainstay.cluster.authority import authority_of  # noqa: PLC0415 - imports a crypto library

    return authority_of(secrets, now_ms=clock.now_ms())
