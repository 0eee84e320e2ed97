"""Put the Git rooms together over the opened stores."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainstay.boot.degraded import Fallback
from mainstay.boot.layout import Layout
from mainstay.boot.scratch import scratch_directory
from mainstay.boot.stores import Stores, hold_s
from mainstay.cache.copies import Copies
from mainstay.cache.settings import CacheSettings
from mainstay.doors.nodes.content import ContentForNodes
from mainstay.foundation.clock import SYSTEM
from mainstay.repository.browse import Browser
from mainstay.repository.content import LocalContent
from mainstay.repository.face import ContentFace, GitFace
from mainstay.repository.maintenance import Maintenance, MaintenanceSettings
from mainstay.repository.reflog import Reflog
from mainstay.repository.service import GitService
from mainstay.repository.settings import RepositorySettings
from mainstay.repository.write import Writer
from mainstay.storage.hold import Hold
from mainstay.storage.push import PushStore
from mainstay.storage.upload import Uploads

_UPLOADS_AT_ONCE = 8
_API_HOLD_S_MAX = 5.0
"""A commit by the API keeps one of a few threads busy while it waits for the database."""


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
    from mainstay.boot.remote_git import remote_git_service  # noqa: PLC0415 - a client that few nodes need

    return remote_git_service(stores, cache_of(stores), fallback=fallback)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiTools:
    """What pages and the API do with repositories."""

    browser: Browser
    writer: Writer


def local_git_service(
    stores: Stores, *, quarantine: Path | None = None, fallback: Fallback | None = None
) -> GitService:
    """The Git service of this process; with a fallback, reads survive the database for a while."""
    return GitService(
        ledger=fallback.ledger if fallback else stores.ledger,
        objects=stores.objects,
        clock=SYSTEM,
        cache=cache_of(stores),
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
    from mainstay.boot.remote_git import remote_content  # noqa: PLC0415 - same

    with closing(remote_content(stores)) as content:
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
    return Copies(cache_of(stores), ledger=stores.ledger, objects=stores.objects, clock=SYSTEM)


def cache_of(stores: Stores) -> CacheSettings:
    """Where the copies of this node are."""
    return CacheSettings(directory=Layout(stores.settings.data).cache)
