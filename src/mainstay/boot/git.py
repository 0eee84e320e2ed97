"""Put the Git rooms together over the opened stores."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from mainstay.foundation.clock import SYSTEM
from mainstay.repository.browse import Browser
from mainstay.repository.face import GitFace
from mainstay.repository.maintenance import Maintenance, MaintenanceSettings
from mainstay.repository.reflog import Reflog
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
    """What API, workers and commands do with repositories; streaming is `git_service`."""

    copies: Copies
    browser: Browser
    writer: Writer
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


def remote_git_service(stores: Stores, *, fallback: Fallback | None = None) -> RemoteGitService:
    """The Git service of the other nodes."""
    secrets = secrets_of(stores)
    return RemoteGitService(
        ledger=fallback.ledger if fallback else stores.ledger,
        roster=Roster(
            nodes=lambda: git_nodes(live_nodes(stores.database)),
            label_of=lambda repository_id: label_of(stores.database, repository_id),
            clock=SYSTEM,
        ),
        context=identity_of(stores).client_context(),
        token=Kept(lambda: token_pair(secrets).current, fresh_s=_TOKEN_FRESH_S, clock=SYSTEM),
        clock=SYSTEM,
        refs_in_memory_max=_cache(stores).refs_in_memory_max,
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
    )


@contextmanager
def git_tools(stores: Stores) -> Iterator[GitTools]:
    """Reading, writing and compacting repositories without a Git client."""
    with (
        scratch_directory(Layout(stores.settings.data)) as scratch,
        ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="upload") as threads,
    ):
        uploads = Uploads(ledger=stores.ledger, objects=stores.objects, clock=SYSTEM, threads=threads)
        copies = Copies(_cache(stores), ledger=stores.ledger, objects=stores.objects, clock=SYSTEM)
        pushes = PushStore(
            ledger=stores.ledger,
            objects=stores.objects,
            clock=SYSTEM,
            uploads=uploads,
            hold=Hold(min(hold_s(stores.settings), _API_HOLD_S_MAX)),
        )
        browser = Browser(ledger=stores.ledger, copies=copies)
        yield GitTools(
            copies=copies,
            browser=browser,
            writer=Writer(
                ledger=stores.ledger, copies=copies, browser=browser, pushes=pushes, scratch=scratch
            ),
            maintenance=Maintenance(
                ledger=stores.ledger,
                copies=copies,
                uploads=uploads,
                settings=MaintenanceSettings(scratch=scratch),
            ),
            reflog=Reflog(ledger=stores.ledger, copies=copies, pushes=pushes),
            scratch=scratch,
        )


def _cache(stores: Stores) -> CacheSettings:
    return CacheSettings(directory=Layout(stores.settings.data).cache)
