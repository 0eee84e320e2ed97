"""Put the Git rooms together over the opened stores."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainstay.boot.layout import Layout
from mainstay.boot.scratch import scratch_directory
from mainstay.boot.stores import Stores
from mainstay.cache.copies import Copies
from mainstay.cache.settings import CacheSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.repository.browse import Browser
from mainstay.repository.maintenance import Maintenance, MaintenanceSettings
from mainstay.repository.reflog import Reflog
from mainstay.repository.service import GitService
from mainstay.repository.settings import RepositorySettings
from mainstay.repository.write import Writer
from mainstay.storage.push import PushStore
from mainstay.storage.upload import Uploads

_UPLOADS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GitTools:
    """What API, workers and commands do with repositories; streaming is `git_service`."""

    copies: Copies
    browser: Browser
    writer: Writer
    maintenance: Maintenance
    reflog: Reflog
    scratch: Path


def git_service(stores: Stores, *, quarantine: Path | None = None) -> GitService:
    """The streaming Git service, for the data plane and SSH. Close it at the end.

    A process that `serve` did not start brings its own directory for pushes under way: the next start
    wipes the one of the node.
    """
    return GitService(
        ledger=stores.ledger,
        objects=stores.objects,
        clock=SYSTEM,
        cache=_cache(stores),
        settings=RepositorySettings(quarantine=quarantine or Layout(stores.settings.data).quarantine),
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
        pushes = PushStore(ledger=stores.ledger, objects=stores.objects, clock=SYSTEM, uploads=uploads)
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
