"""The faces of the Git service that others see, whoever does the work: this process or another node.

`GitFace` is for Git clients, `ContentFace` for pages and the API. Errors before the first byte was written
come as one of the five families; after it, they are said in the protocol. `ClientGone` means nobody listens
any more, `OutcomeUnknown` that the door must hang up. What every implementation must do is in
`tests/contracts`: `test_git_face.py` and `test_browse_and_write.py`.
"""

from collections.abc import Callable, Mapping
from typing import BinaryIO, Protocol

from mainstay.access.policy import PushRules
from mainstay.cache.refs import RefListing
from mainstay.git.objectnames import RefName
from mainstay.git.protocol.services import Service
from mainstay.repository.push import PushContext
from mainstay.repository.questions import Addition, Question
from mainstay.repository.streams import ByteSink, ByteSource


class GitFace(Protocol):
    """Fetches and pushes of every repository."""

    def look(self, repository_id: int) -> RefListing:
        """The refs as of now. Blocks; for a door that is in a thread anyway, to be handed on as `seen`."""
        ...

    def look_at_once(self, repository_id: int) -> RefListing | None:
        """Like `look`, for a door that is not in a thread: one query at most, else None."""
        ...

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
        ...

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
        ...

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
        """Serve one push."""
        ...

    async def finish(self) -> None:
        """Close what belongs to the event loop; the last thing in it, before `close`."""
        ...

    def close(self) -> None: ...


class ContentFace(Protocol):
    """The objects of every repository, without a Git client. Blocks."""

    def ask(self, repository_id: int, question: Question, *, hear: Callable[[bytes], None]) -> None:
        """Tell `hear` the answer in the form that the question names, piece by piece, in this thread.

        Who hears slowly slows down who answers; no answer is ever held as a whole. It is whole when this
        returns. `BrokenOff` says that it is not, whatever was heard: ask again. What `hear` raises ends it.
        """
        ...

    def add(self, addition: Addition, pack: BinaryIO) -> Mapping[RefName, str]:
        """Make the objects in `pack` and the move of their ref durable. Returns why the ref did not move.

        The objects are checked; the actor is not. `OutcomeUnknown` only after looking in vain.
        """
        ...
