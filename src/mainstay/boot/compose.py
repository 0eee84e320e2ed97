"""Put the parts of one process together: the Git service, the gate, the API's kit."""

from urllib.parse import urlsplit

from mainstay import __version__
from mainstay.access.actors import Actor
from mainstay.boot.layout import Layout
from mainstay.boot.settings import NodeSettings
from mainstay.boot.stores import Stores
from mainstay.cache.settings import CacheSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.product.projects.admission import GitGate
from mainstay.product.projects.locate import ProjectFacts
from mainstay.repository.service import GitService
from mainstay.repository.settings import RepositorySettings


def git_service(stores: Stores) -> GitService:
    """Fetches and pushes, over the cache of this node."""
    layout = Layout(stores.settings.data)
    return GitService(
        ledger=stores.ledger,
        objects=stores.objects,
        clock=SYSTEM,
        cache=CacheSettings(directory=layout.cache),
        settings=RepositorySettings(quarantine=layout.quarantine),
    )


def git_gate(stores: Stores) -> GitGate:
    """Who may fetch from and push to what. Needs `setup_django` for projects made by a first push."""
    return GitGate(stores.database, clock=SYSTEM, create_on_push=_create_on_push)


def ssh_clone_url(settings: NodeSettings, path: str) -> str:
    """The address to show to somebody who asks for the project at `path`."""
    host = urlsplit(settings.external_url).hostname or _host_of(settings)
    port = settings.ssh.port
    return f"git@{host}:{path}.git" if port == 22 else f"ssh://git@{host}:{port}/{path}.git"  # noqa: PLR2004 - ssh's own


def http_url(settings: NodeSettings) -> str:
    """What people type into a browser on this machine when no external URL is set."""
    return settings.external_url or f"http://{_host_of(settings)}:{settings.http.port}"


def version_shown() -> str:
    return __version__


def _host_of(settings: NodeSettings) -> str:
    host = settings.http.host
    return "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104 - a comparison


def _create_on_push(actor: Actor, path: str) -> ProjectFacts:
    """Runs in threads that live long: Django's connection must not outlive the call and go stale."""
    from django.db import connections  # noqa: PLC0415 - needs `setup_django` first

    from mainstay.product.projects.services import create_on_push  # noqa: PLC0415 - same

    try:
        return create_on_push(actor, path)
    finally:
        connections.close_all()
