"""Wrong write orders, each a mistake that somebody could make. The suite must catch every one.

Not here: a forgotten fsync. A killed process loses nothing that the kernel has, so no kill can show it;
`tests/contracts/test_directory_durability.py` looks at the order of the calls instead.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mainstay.foundation.failpoints import failpoint
from mainstay.foundation.ids import new_ulid
from mainstay.repository.reporting import Reporter
from mainstay.storage import push as honest
from mainstay.storage.database.lease import Leases, Server
from mainstay.storage.ledger import Push, PushOutcome, Repository
from mainstay.storage.push import PushStore
from mainstay.storage.upload import PackFiles, Uploads

_ANSWERED_S = 0.2
_commit = PushStore.commit
_report = Reporter.report
_put_off: list[Callable[[], PushOutcome]] = []


def break_as(name: str) -> None:
    """Break this process in the way that `name` says; an empty name breaks nothing."""
    if name:
        {**BROKEN, **BLIND}[name]()


def _ledger_before_objects() -> None:
    """The transaction first, the pack afterwards."""

    def commit(
        self: PushStore, push: Push, repository: Repository, packs: Sequence[PackFiles]
    ) -> PushOutcome:
        outcome = self._ledger.push(push)
        failpoint(honest.COMMITTED)
        self._uploads.store(packs)
        failpoint(honest.OBJECTS_STORED)
        return outcome

    PushStore.commit = commit  # type: ignore[method-assign]


def _answer_before_commit() -> None:
    """`ok` goes out first, the push is made durable when the client is happy."""

    def commit(
        self: PushStore, push: Push, repository: Repository, packs: Sequence[PackFiles]
    ) -> PushOutcome:
        kept = [_kept(each) for each in packs]
        _put_off.append(lambda: _commit(self, push, repository, kept))
        return PushOutcome(repository.version + 1, {})

    async def report(self: Reporter, unpack_error: str | None, refs: Sequence[Any]) -> None:
        await _report(self, unpack_error, refs)
        while _put_off:
            # A short answer leaves when it is complete.
            asyncio.get_running_loop().call_later(_ANSWERED_S, _put_off.pop())

    PushStore.commit = commit  # type: ignore[method-assign]
    Reporter.report = report  # type: ignore[method-assign]


def _kept(each: PackFiles) -> PackFiles:
    """The quarantine goes away with the request: keep the files beside it."""
    files = {}
    for ending, path in each.files.items():
        files[ending] = path.parents[2] / f"kept-{new_ulid()}.{ending}"
        os.link(path, files[ending])
    return replace(each, files=files)


def _a_transaction_per_ref() -> None:
    """Each ref moves in its own transaction."""

    def commit(
        self: PushStore, push: Push, repository: Repository, packs: Sequence[PackFiles]
    ) -> PushOutcome:
        intents, named = (self._uploads.begin(repository, packs),), push.packs
        self._uploads.store(packs)
        outcome = PushOutcome(None, {})
        for change in push.changes:
            part = replace(push, push_id=new_ulid(), changes=[change], intents=intents, packs=named)
            outcome = self._ledger.push(part)
            intents, named = (), ()
            failpoint(honest.COMMITTED)
        return outcome

    PushStore.commit = commit  # type: ignore[method-assign]


def _no_after_the_commit() -> None:
    """What fails after the commit is told as if the push had failed."""

    def after_commit(self: PushStore, push: Push, repository: Repository, version: int) -> None:
        failpoint(honest.COMMITTED)
        self._journal(repository, version)
        failpoint(honest.JOURNALED)

    PushStore._after_commit = after_commit  # type: ignore[method-assign]


def _no_intent() -> None:
    """Objects are stored that no row of the ledger announces."""

    def begin(
        self: Uploads, repository: Repository, packs: Sequence[PackFiles], *more_keys: str, **_: object
    ) -> str:
        return self._ledger.begin_upload(repository.id, [], expires_ms=self._clock.now_ms() + 1000)

    Uploads.begin = begin  # type: ignore[method-assign]


def _no_lease() -> None:
    """Whatever server says that it takes writes is believed when it is read."""

    def prove(_self: Leases, _server: Server) -> None:
        return

    Leases.prove = prove  # type: ignore[method-assign]


BROKEN: dict[str, Callable[[], None]] = {
    "ledger_before_objects": _ledger_before_objects,
    "answer_before_commit": _answer_before_commit,
    "a_transaction_per_ref": _a_transaction_per_ref,
    "no_after_the_commit": _no_after_the_commit,
    "no_intent": _no_intent,
}

BLIND: dict[str, Callable[[], None]] = {"no_lease": _no_lease}
"""Mistakes that only a cluster can show."""
