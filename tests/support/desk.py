"""One repository behind the Git service, without a door: its clients are lists of chunks.

with opened_desk(database, tmp_path) as desk:
    desk.push(push_request(...))
"""

import asyncio
import random
import shutil
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import PushRules
from mainstay.access.roles import Role
from mainstay.cache.settings import CacheSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import ZERO_OID, RefName
from mainstay.repository.maintenance import Maintenance, MaintenanceSettings
from mainstay.repository.push import PushContext
from mainstay.repository.service import GitService
from mainstay.repository.settings import RepositorySettings
from mainstay.repository.streams import ClientGone
from mainstay.storage.database import Database
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects.memory import MemoryStore
from mainstay.storage.upload import Uploads
from support.raw_push import RawObject, blob, commit, push_request, tree

MAIN = "refs/heads/main"
RULES = PushRules(actor=Actor(kind=Kind.USER, id=7, name="ada"), role=Role.MAINTAINER)
_CONTEXT = PushContext(address="192.0.2.7", transport="http", request_id="r")

Run = Callable[[Coroutine[Any, Any, None]], Any]


class Said:
    """A client that says these chunks and then ends, or is gone."""

    def __init__(self, *chunks: bytes, then_gone: bool = False) -> None:
        self._chunks = list(chunks)
        self._then_gone = then_gone

    async def read(self) -> bytes:
        await asyncio.sleep(0)  # as on a socket, others have their turn
        if self._chunks:
            return self._chunks.pop(0)
        if self._then_gone:
            raise ClientGone
        return b""


class Heard:
    """What a client heard before it went away: at the first piece larger than `patience`."""

    def __init__(self, patience: int = 1 << 30) -> None:
        self.heard = b""
        self._patience = patience

    async def write(self, chunk: bytes) -> None:
        if len(chunk) > self._patience:
            raise ClientGone
        self.heard += chunk


@dataclass
class Desk:
    """One repository with a commit of 4 MiB, or another size, that do not compress."""

    service: GitService
    ledger: SqlLedger
    objects: MemoryStore
    directory: Path
    """With `cache` in it."""
    id: int
    tip: str

    def look_through(self) -> bool:
        """As the scrub does: whether there was any damage."""
        with self.service.copies.pinned(self.id) as copy:
            return self.service.copies.mender.mend(copy.place.git_dir, copy.packs)

    def rebase(self) -> None:
        """Make a base pack, with all the side-files that there are."""
        with ThreadPoolExecutor(1) as threads:
            maintenance = Maintenance(
                ledger=self.ledger,
                copies=self.service.copies,
                uploads=Uploads(ledger=self.ledger, objects=self.objects, clock=SYSTEM, threads=threads),
                settings=MaintenanceSettings(scratch=self.directory / "scratch", base_objects_min=1),
            )
            assert maintenance.maintain(self.id).startswith("rebased")

    def forget_cache(self) -> None:
        shutil.rmtree(self.directory / "cache")

    def push(
        self, *chunks: bytes, stateless: bool = True, rules: PushRules = RULES, run: Run = asyncio.run
    ) -> bytes:
        """What the pusher heard."""
        heard = Heard()
        run(
            self.service.receive_pack(
                self.id, stateless=stateless, source=Said(*chunks), sink=heard, rules=rules, context=_CONTEXT
            )
        )
        return heard.heard

    def fetch(
        self, *chunks: bytes, version: int = 2, stateless: bool = True, run: Run = asyncio.run
    ) -> bytes:
        """What the client heard."""
        heard = Heard()
        run(
            self.service.upload_pack(
                self.id, version=version, stateless=stateless, source=Said(*chunks), sink=heard
            )
        )
        return heard.heard


def a_commit(content: bytes) -> list[RawObject]:
    file = blob(content)
    top = tree({"data": file})
    return [file, top, commit(top, None, "Data.")]


@contextmanager
def opened_desk(database: Database, directory: Path, *, size_bytes: int = 4 << 20) -> Iterator[Desk]:
    ledger, objects = SqlLedger(database, SYSTEM), MemoryStore(clock=SYSTEM)
    repository = ledger.create_repository(
        uid=new_ulid(), head=RefName(MAIN.encode()), identity={}, actor="user:7"
    )
    service = GitService(
        ledger=ledger,
        objects=objects,
        clock=SYSTEM,
        cache=CacheSettings(directory=directory / "cache"),
        settings=RepositorySettings(quarantine=directory / "quarantine"),
    )
    made = a_commit(random.Random(7).randbytes(size_bytes))
    desk = Desk(service, ledger, objects, directory, repository.id, made[-1].oid)
    assert b"ok " + MAIN.encode() in desk.push(push_request([(MAIN, ZERO_OID, desk.tip)], made))
    try:
        yield desk
    finally:
        service.close()
