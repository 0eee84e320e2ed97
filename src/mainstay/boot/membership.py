"""What a node shares with the others, opened for one process: secrets and TLS identity."""

import secrets as randomness
import threading

from mainstay.boot.settings import NodeSettings
from mainstay.boot.stores import Stores
from mainstay.cluster import identity
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.identity import NodeIdentity
from mainstay.cluster.nodes import node_id
from mainstay.cluster.secrets import Secrets, secrets_in
from mainstay.cluster.sites.identity import server_name_of
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.logs import get_logger

log = get_logger()

SECRET_KEY = "django/secret_key"  # noqa: S105 - the name of the secret, not its value

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
_LOOKS_APART_S = 3600.0


def secrets_of(stores: Stores) -> Secrets:
    """The shared secrets, readable with the master key in the data directory."""
    return secrets_in(stores.database, stores.settings.data, SYSTEM)


def secret_key(stores: Stores) -> str:
    """What signs sessions and links, on every node the same; made once."""
    return secrets_of(stores).ensure(SECRET_KEY, lambda: randomness.token_urlsafe(48))


def identity_of(stores: Stores) -> NodeIdentity:
    """Who this node is; `prepare` has made the files."""
    return NodeIdentity(node_id(stores.settings.data), stores.settings.data)


def ensure_certificate(stores: Stores) -> bool:
    """Make or renew the certificate of this node when it is due; say whether that was done."""
    names = names_of(stores.settings)
    return identity.ensure_certificate(identity_of(stores), secrets_of(stores), names, now_ms=SYSTEM.now_ms())


def names_of(settings: NodeSettings) -> list[str]:
    """By which others may reach this node, beside its own name in the cluster."""
    listened = [settings.rpc.host] if settings.rpc else []
    named = [settings.node_address, settings.node_name, *listened, *_site_names(settings)]
    return list(dict.fromkeys(name for name in named if name and name not in _EVERYWHERE))


def _site_names(settings: NodeSettings) -> list[str]:
    """On the line between sites every node of a site answers by the name of the site."""
    standing = SiteFile(settings.data).read() if settings.sites else None
    return [server_name_of(standing.site_id)] if standing else []


def keep_certificate_fresh(stores: Stores) -> threading.Event:
    """Look once an hour whether the certificate is due, in a thread, until the event is set.

    For processes that end TLS between nodes; the contexts serve the new one by themselves.
    """
    stop = threading.Event()
    threading.Thread(target=_renew_until, args=(stop, stores), name="certificate", daemon=True).start()
    return stop


def _renew_until(stop: threading.Event, stores: Stores) -> None:
    while not stop.wait(_LOOKS_APART_S):
        try:
            ensure_certificate(stores)
        except (MainstayError, OutcomeUnknown, OSError) as error:
            log.warning("boot.certificate_not_renewed", because=str(error))
