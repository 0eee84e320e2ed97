"""Put the Git rooms together over the opened stores."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainstay.boot.degraded import Fallback
from mainstay.boot.layout import Layout
from mainstay.boot.membership import identity_of, secrets_of
from mainstay.boot.scratch import scratch_directory
from mainstay.boot.stores import Stores, hold_s
from mainstay.cache.copies import Copies
from mainstay.cache.settings import CacheSettings
from mainstay.cluster.labels import label_of
from mainstay.cluster.nodes import live_nodes
from mainstay.cluster.placement import git_nodes
from mainstay.cluster.rpc_tokens import token_pair
from mainstay.doors.nodes.content import ContentForNodes
from mainstay.foundation.clock import SYSTEM
from mainstay.repository.browse import Browser
from mainstay.repository.content import LocalContent
from mainstay.repository.face import ContentFace, GitFace
from mainstay.repository.maintenance import Maintenance, MaintenanceSettings
from mainstay.repository.reflog import Reflog
from mainstay.repository.remote.asking import Asking
from mainstay.repository.remote.content import RemoteContent
from mainstay.repository.remote.kept import Kept
from mainstay.repository.remote.roster import Roster
from mainstay.repository.remote.service import RemoteGitService
from mainstay.repository.service import GitService
from mainstay.repository.settings import RepositorySettings
from mainstay.repository.write import Writer
from mainstay.storage.hold import Hold
from mainstay.storage.push import PushStore
from mainstay.storage.upload import Uploads

_UPLOADS_AT_ONCE = 8
_API_HOLD_S_MAX = 5.0
"""A commit by the API keeps one of a few threads busy while it waits for the database."""
_TOKEN_FRESH_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GitTools:
    """What workers and commands do with repositories; streaming is `git_service`, pages are `api_tools`."""

    copies: Copies
    maintenance: Maintenance
    reflog: Reflog
    scratch: Path


def git_service(
    stores: Stores, *, quarantine: Path | None = None, fallback: Fallback | None = None
) -> GitFace:
    """The streaming Git service, for the data plane and SSH: by this process where the node has the role
    `git`, else by the nodes that have it. Finish and close it at the end.

    A process that `serve` did not start brings its own directory for pushes under way: the next start
    wipes the one of the node.
    """
    if "git" in stores.settings.roles:
        return local_git_service(stores, quarantine=quarantine, fallback=fallback)
    return remote_git_service(stores, fallback=fallback)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiTools:
    """What pages and the API do with repositories."""

    browser: Browser
    writer: Writer


def remote_git_service(stores: Stores, *, fallback: Fallback | None = None) -> RemoteGitService:
    """The Git service of the other nodes."""
    return RemoteGitService(
        ledger=fallback.ledger if fallback else stores.ledger,
        asking=_asking(stores),
        refs_in_memory_max=_cache(stores).refs_in_memory_max,
    )


def _asking(stores: Stores) -> Asking:
    secrets = secrets_of(stores)
    return Asking(
        roster=Roster(
            nodes=lambda: git_nodes(live_nodes(stores.database)),
            label_of=lambda repository_id: label_of(stores.database, repository_id),
            clock=SYSTEM,
        ),
        context=identity_of(stores).client_context(),
        token=Kept(lambda: token_pair(secrets).current, fresh_s=_TOKEN_FRESH_S, clock=SYSTEM),
        clock=SYSTEM,
    )


def local_git_service(
    stores: Stores, *, quarantine: Path | None = None, fallback: Fallback | None = None
) -> GitService:
    """The Git service of this process; with a fallback, reads survive the database for a while."""
    return GitService(
        ledger=fallback.ledger if fallback else stores.ledger,
        objects=stores.objects,
        clock=SYSTEM,
        cache=_cache(stores),
        settings=RepositorySettings(
            quarantine=quarantine or Layout(stores.settings.data).quarantine, hold_s=hold_s(stores.settings)
        ),
        followers=stores.followers,
    )


@contextmanager
def api_tools(stores: Stores) -> Iterator[ApiTools]:
    """Looking into repositories and writing to them without a Git client: objects by this process where the
    node has the role `git`, else by the nodes that have it.
    """
    with _uploads(stores) as uploads, _content(stores, uploads) as content:
        yield ApiTools(
            browser=Browser(ledger=stores.ledger, content=content),
            writer=Writer(ledger=stores.ledger, content=content, pushes=_pushes(stores, uploads)),
        )


@contextmanager
def _content(stores: Stores, uploads: Uploads) -> Iterator[ContentFace]:
    if "git" in stores.settings.roles:
        with scratch_directory(Layout(stores.settings.data)) as scratch:
            yield local_content(stores, uploads, _copies(stores), scratch)
        return
    with closing(RemoteContent(ledger=stores.ledger, asking=_asking(stores))) as content:
        yield content


@contextmanager
def content_for_nodes(stores: Stores, copies: Copies) -> Iterator[ContentForNodes]:
    """What the git of this node does for pages and the API of the others."""
    with _uploads(stores) as uploads, scratch_directory(Layout(stores.settings.data)) as scratch:
        content = local_content(stores, uploads, copies, scratch)
        with closing(ContentForNodes(content, scratch=scratch)) as made:
            yield made


def local_content(stores: Stores, uploads: Uploads, copies: Copies, scratch: Path) -> LocalContent:
    """The objects of repositories, by the git of this process."""
    return LocalContent(ledger=stores.ledger, copies=copies, pushes=_pushes(stores, uploads), scratch=scratch)


@contextmanager
def git_tools(stores: Stores) -> Iterator[GitTools]:
    """Compacting repositories, and undoing what was done to them."""
    with scratch_directory(Layout(stores.settings.data)) as scratch, _uploads(stores) as uploads:
        copies = _copies(stores)
        yield GitTools(
            copies=copies,
            maintenance=Maintenance(
                ledger=stores.ledger,
                copies=copies,
                uploads=uploads,
                settings=MaintenanceSettings(scratch=scratch),
            ),
            reflog=Reflog(ledger=stores.ledger, copies=copies, pushes=_pushes(stores, uploads)),
            scratch=scratch,
        )


@contextmanager
def _uploads(stores: Stores) -> Iterator[Uploads]:
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="upload") as threads:
        yield Uploads(
            ledger=stores.ledger,
            objects=stores.objects,
            clock=SYSTEM,
            threads=threads,
            followers=stores.followers,
        )


def _pushes(stores: Stores, uploads: Uploads) -> PushStore:
    return PushStore(
        ledger=stores.ledger,
        objects=stores.objects,
        clock=SYSTEM,
        uploads=uploads,
        hold=Hold(min(hold_s(stores.settings), _API_HOLD_S_MAX)),
    )


def _copies(stores: Stores) -> Copies:
    return Copies(_cache(stores), ledger=stores.ledger, objects=stores.objects, clock=SYSTEM)


def _cache(stores: Stores) -> CacheSettings:
    return CacheSettings(directory=Layout(stores.settings.data).cache)
