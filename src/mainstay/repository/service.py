"""The Git service in this process: one of the two behind `repository.face`."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from mainstay.access.policy import PushRules
from mainstay.cache.copies import Copies
from mainstay.cache.refs import RefListing, RefListings
from mainstay.cache.responses import Responses
from mainstay.cache.settings import CacheSettings
from mainstay.foundation.clock import Clock
from mainstay.git.protocol.services import Service
from mainstay.repository import advertisement
from mainstay.repository.fetch import Fetcher
from mainstay.repository.push import PushContext, Receiver
from mainstay.repository.settings import RepositorySettings
from mainstay.repository.streams import ByteSink, ByteSource
from mainstay.repository.threads import Threads
from mainstay.storage.followers import NO_FOLLOWERS, Followers
from mainstay.storage.hold import Hold
from mainstay.storage.ledger import Ledger
from mainstay.storage.objects import ObjectStore
from mainstay.storage.push import PushStore
from mainstay.storage.upload import Uploads

_UPLOADS_AT_ONCE = 16


class GitService:
    """Fetches and pushes of every repository, in this process."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        objects: ObjectStore,
        clock: Clock,
        cache: CacheSettings,
        settings: RepositorySettings,
        followers: Followers = NO_FOLLOWERS,
    ) -> None:
        self._threads = Threads(settings.threads)
        self._pool = ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="upload")
        self._listings = RefListings(ledger, refs_max=cache.refs_in_memory_max)
        self.copies = Copies(cache, ledger=ledger, objects=objects, clock=clock)
        uploads = Uploads(
            ledger=ledger, objects=objects, clock=clock, threads=self._pool, followers=followers
        )
        hold = Hold(settings.hold_s)
        store = PushStore(ledger=ledger, objects=objects, clock=clock, uploads=uploads, hold=hold)
        self._responses = Responses(
            cache.directory / "responses", size_bytes_max=cache.responses_gib_max << 30, clock=clock
        )
        self._fetcher = Fetcher(
            listings=self._listings,
            copies=self.copies,
            responses=self._responses,
            threads=self._threads,
            settings=settings,
        )
        self._receiver = Receiver(
            listings=self._listings,
            copies=self.copies,
            store=store,
            threads=self._threads,
            settings=settings,
        )

    def look(self, repository_id: int) -> RefListing:
        """The refs as of now. Blocks; for a door that is in a thread anyway, to be handed on as `seen`.

        What a door saw after the request arrived is fresh enough to answer that request with.
        """
        return self._listings.latest(repository_id)

    def look_at_once(self, repository_id: int) -> RefListing | None:
        """Like `look`, for a door that is not in a thread: one query at most, else None."""
        return self._listings.unmoved(repository_id)

    async def advertise(
        self,
        repository_id: int,
        service: Service,
        *,
        version: int,
        sink: ByteSink,
        seen: RefListing | None = None,
    ) -> None:
        """The body of an `info/refs` answer: v0 refs, or the v2 capabilities."""
        look = partial(self._threads.run, self.look, repository_id)
        await advertisement.send(service, version=version, sink=sink, seen=seen, look=look)

    async def upload_pack(
        self,
        repository_id: int,
        *,
        version: int,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        seen: RefListing | None = None,
    ) -> None:
        """Serve fetches: one request when stateless, a whole session with advertisement otherwise."""
        await self._fetcher.serve(
            repository_id, version=version, stateless=stateless, source=source, sink=sink, seen=seen
        )

    async def receive_pack(
        self,
        repository_id: int,
        *,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        rules: PushRules,
        context: PushContext,
        seen: RefListing | None = None,
    ) -> None:
        """Serve one push: see `repository.push`."""
        await self._receiver.serve(
            repository_id,
            stateless=stateless,
            source=source,
            sink=sink,
            rules=rules,
            context=context,
            seen=seen,
        )

    async def finish(self) -> None:
        """Nothing here belongs to an event loop."""

    def close(self) -> None:
        self._responses.close()
        self._fetcher.close()
        self._receiver.close()
        self._threads.close()
        self._pool.shutdown(wait=True)
