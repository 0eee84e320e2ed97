"""Write objects so that a crash at any point leaves nothing unaccounted for.

An intent in the ledger names the objects before the first byte of them is written. The commit that makes
them part of the truth consumes the intent; until then they are nobody's, and the sweeper may claim them.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import structlog

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.ids import new_ulid
from mainstay.storage.database import DatabaseAway
from mainstay.storage.followers import NO_FOLLOWERS, Followers
from mainstay.storage.hold import NO_HOLD, Hold, Patience
from mainstay.storage.ledger import Ledger, Pack, PackKind, Repository
from mainstay.storage.objects import ObjectStore

PACK_STORED = declare("push.pack_stored", "the .pack is in the object store, its idx may not be")

_INTENT_LIFE_MS = 24 * 3600 * 1000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PackFiles:
    """A finished pack on local disk: what to store, and what the manifest will say of it."""

    pack: Pack
    files: Mapping[str, Path]
    """By ending: `pack`, `idx`, and perhaps `rev`, `bitmap`, `graph`."""


def new_pack_key(repository: Repository) -> tuple[str, str]:
    """A fresh pack id and the key of its files, never used before and never again."""
    pack_id = new_ulid()
    return pack_id, f"repositories/{repository.uid}/packs/{pack_id}"


def finished_pack(
    repository: Repository,
    files: Mapping[str, Path],
    *,
    objects: int,
    kind: PackKind,
    sealed_bytes: int | None = None,
) -> PackFiles:
    """Describe a pack that git has finished, under a fresh key. Blocks: reads the pack once to hash it.

    From `sealed_bytes` on it is sealed; None: never.
    """
    with files["pack"].open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    size_bytes = files["pack"].stat().st_size
    pack_id, key = new_pack_key(repository)
    pack = Pack(
        id=pack_id,
        key=key,
        sha256=digest,
        size_bytes=size_bytes,
        objects=objects,
        kind=kind,
        sealed=sealed_bytes is not None and size_bytes >= sealed_bytes,
        artefacts=tuple(sorted(files.keys() - {"pack"})),
    )
    return PackFiles(pack, files)


class Uploads:
    """Intents, and the uploads that they announce."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        objects: ObjectStore,
        clock: Clock,
        threads: ThreadPoolExecutor,
        followers: Followers = NO_FOLLOWERS,
    ) -> None:
        self._ledger = ledger
        self._objects = objects
        self._clock = clock
        self._threads = threads
        self._followers = followers

    def begin(
        self,
        repository: Repository,
        packs: Sequence[PackFiles],
        *more_keys: str,
        hold: Hold = NO_HOLD,
        patience: Patience | None = None,
    ) -> str:
        """Record what is about to be written; return the id of the intent.

        With `hold` it is tried again while the database is away. Nothing else has happened by then, and the
        intent has its id from here, so an attempt whose outcome is unknown does no harm.
        """
        keys = _keys_of(packs)
        expires_ms = self._clock.now_ms() + _INTENT_LIFE_MS
        intent_id = new_ulid()
        return hold.through(
            lambda: self._ledger.begin_upload(
                repository.id, [*keys, *more_keys], expires_ms=expires_ms, intent_id=intent_id
            ),
            on=(DatabaseAway, OutcomeUnknown),
            patience=patience,
        )

    def store(
        self, packs: Sequence[PackFiles], *more: Callable[[], None], more_keys: Sequence[str] = ()
    ) -> None:
        """One round: all writes run side by side, and all are durable when this returns, here and wherever
        they must be. `more_keys` are those that `more` writes. Raises `FollowersBehind`, too.

        When one fails, the others have ended, too, before that is raised: what is cleaned up afterwards stays
        clean.
        """
        work = [self._putting(each, ending) for each in packs for ending in each.files]
        round_ = [self._threads.submit(task) for task in (*work, *more)]
        wait(round_)
        for done in round_:
            done.result()
        self._followers.wait([*_keys_of(packs), *more_keys])

    def is_still_open(self, intent: str) -> bool:
        """Whether the intent was neither consumed nor claimed. Waits for a commit that is in flight."""
        return self._ledger.extend_upload(intent, expires_ms=self._clock.now_ms())

    def abandon(self, intent: str) -> None:
        """Nothing was committed: let the sweeper have the objects at its next round, not in a day."""
        try:
            self._ledger.extend_upload(intent, expires_ms=self._clock.now_ms())
        except (Unavailable, OutcomeUnknown) as away:
            log.warning("upload.intent_left", intent=intent, reason=str(away))

    def _putting(self, each: PackFiles, ending: str) -> Callable[[], None]:
        def put() -> None:
            self._objects.put(f"{each.pack.key}.{ending}", each.files[ending])
            if ending == "pack":
                failpoint(PACK_STORED)

        return put


def _keys_of(packs: Sequence[PackFiles]) -> list[str]:
    return [f"{each.pack.key}.{ending}" for each in packs for ending in each.files]
