"""The objects of repositories, by the git of other nodes: the same face as `repository.content.LocalContent`.

A question that one node did not answer is asked of another until the first piece of an answer was passed on;
after that it is for who asked to ask again (`BrokenOff`). An addition is made once: when the node that has it
goes away, the ledger tells by `push_id` what became of it, or nobody does.
"""

from typing import BinaryIO

from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.repository.content import BrokenOff, Hear, Refused
from mainstay.repository.questions import Addition, Question
from mainstay.repository.remote.asking import AnswerCut, Asking, Replay, Source
from mainstay.repository.remote.beside import Beside, Unanswered
from mainstay.repository.remote.calls import Browse, Write
from mainstay.repository.remote.questions import refused_from
from mainstay.repository.remote.strict import BadFields, fields_of
from mainstay.storage.ledger import Ledger

_CALL_S_MAX = 300.0
_PIECE_BYTES = 1 << 18
_REFUSED_BYTES_MAX = 1 << 20


class RemoteContent:
    """The objects of every repository, by the nodes that have the role `git`."""

    def __init__(self, *, ledger: Ledger, asking: Asking) -> None:
        self._ledger = ledger
        self._asking = asking
        self._beside = Beside("content")

    def ask(self, repository_id: int, question: Question, *, hear: Hear) -> None:
        """Tell `hear` the answer, piece by piece."""
        call = Browse(repository_id=repository_id, question=question)
        try:
            self._beside.stream(
                lambda sink: self._asking.make(call, Replay(b""), sink), hear=hear, s_max=_CALL_S_MAX
            )
        except AnswerCut as cut:
            raise BrokenOff("the answer of another node broke off: try again") from cut

    def add(self, addition: Addition, pack: BinaryIO) -> Refused:
        """Make new objects and their ref durable. Returns why the ref did not move, if it did not."""
        answer = _Gathered()
        making = self._asking.make(Write(addition=addition), Source(_Read(pack)), answer)
        try:
            self._beside.run(making, s_max=_CALL_S_MAX)
            return refused_from(fields_of(bytes(answer.body)))
        except (OutcomeUnknown, Unanswered, BadFields) as lost:
            return self._looked_up(addition, lost)

    def close(self) -> None:
        self._beside.run(self._asking.finish(), s_max=_CALL_S_MAX)
        self._beside.close()

    def _looked_up(self, addition: Addition, lost: Exception) -> Refused:
        """What the ledger says of it. What it does not know of may still be on its way."""
        try:
            outcome = self._ledger.outcome_of(addition.push_id)
        except Unavailable as away:
            raise OutcomeUnknown(f"push {addition.push_id}: {lost}, and then: {away}") from lost
        if outcome is None:
            raise OutcomeUnknown(f"push {addition.push_id}: {lost}") from lost
        return outcome.refused


class _Read:
    """A file as a source."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def read(self) -> bytes:
        return self._file.read(_PIECE_BYTES)


class _Gathered:
    """A small answer, in memory."""

    def __init__(self) -> None:
        self.body = bytearray()

    @property
    def bytes_written(self) -> int:
        return len(self.body)

    async def write(self, chunk: bytes) -> None:
        self.body.extend(chunk)
        if len(self.body) > _REFUSED_BYTES_MAX:
            raise BadFields("the answer to an addition is too long to be one")
