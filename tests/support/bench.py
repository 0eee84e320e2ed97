"""One repository with a first commit, looked into and written to without a Git client.

with opened_bench(database, tmp_path, elsewhere=True) as bench:
    bench.browser.resolve(bench.id, "main")     # the git of another node, over TLS
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import PushRules
from mainstay.access.roles import Role
from mainstay.cache.copies import Copies
from mainstay.cache.settings import CacheSettings
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import Oid, RefName
from mainstay.repository.browse import Browser, Signature
from mainstay.repository.content import LocalContent
from mainstay.repository.face import ContentFace
from mainstay.repository.write import Writer
from mainstay.storage.database import Database
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects.memory import MemoryStore
from mainstay.storage.push import PushStore
from mainstay.storage.upload import Uploads
from support.rpc import Cluster

MAIN = RefName(b"refs/heads/main")
ADA = Signature("Ada", "ada@example.org", 1_700_000_000, 60)
USER = Actor(kind=Kind.USER, id=7, name="ada")
RULES = PushRules(actor=USER, role=Role.MAINTAINER)


@dataclass
class Bench:
    id: int
    first: Oid
    ledger: SqlLedger
    copies: Copies
    browser: Browser
    writer: Writer
    content: ContentFace
    """Under test: of this process, or of another node."""
    local: LocalContent
    cluster: Cluster | None
    scratch: Path


@contextmanager
def opened_bench(database: Database, directory: Path, *, elsewhere: bool) -> Iterator[Bench]:
    with ExitStack() as stack:
        clock = ManualClock()
        ledger, objects = SqlLedger(database, clock), MemoryStore(clock=clock)
        settings = CacheSettings(directory=directory / "cache")
        copies = Copies(settings, ledger=ledger, objects=objects, clock=clock)
        threads = stack.enter_context(ThreadPoolExecutor(4))
        uploads = Uploads(ledger=ledger, objects=objects, clock=clock, threads=threads)
        pushes = PushStore(ledger=ledger, objects=objects, clock=clock, uploads=uploads)
        scratch = directory / "scratch"
        local = LocalContent(ledger=ledger, copies=copies, pushes=pushes, scratch=scratch)
        content: ContentFace = local
        cluster = stack.enter_context(Cluster(directory)) if elsewhere else None
        if cluster is not None:
            cluster.start(service=None, content=local)
            content = cluster.content(ledger)
        browser = Browser(ledger=ledger, content=content)
        writer = Writer(ledger=ledger, content=content, pushes=pushes)
        repository = ledger.create_repository(uid=new_ulid(), head=MAIN, identity={}, actor="user:7")
        first = writer.initial_commit(
            repository.id,
            MAIN,
            files={"README.md": b"# engine\n"},
            author=ADA,
            message="Start.",
            rules=RULES,
        )
        yield Bench(repository.id, first, ledger, copies, browser, writer, content, local, cluster, scratch)
