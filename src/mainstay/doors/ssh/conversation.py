"""One command of one client: admit, serve, and leave with an exit code.

Knows nothing of how the bytes travel: `session` holds it over a channel of our own server, `forced` over
standard input and output for sites that keep OpenSSH. Who somebody is, is asked again for every command, so
a key that was taken away is of no use on a connection that is still open.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import GitAction
from mainstay.cache.outage import one_request
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, NotFound, OutcomeUnknown, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import bound, get_logger
from mainstay.foundation.metrics import counter, histogram
from mainstay.git.protocol.services import Service
from mainstay.git.protocol.ssh_command import SshCommand, UnknownSshCommand, parse
from mainstay.ops.maintenance.decisions import Deed
from mainstay.ops.maintenance.lookout import FAILOVER, Closed, Held, Lookout, always_open
from mainstay.ops.maintenance.state import HOLD_S_MAX
from mainstay.product.projects.admission import Admission, GitGate, SshKey, project_path
from mainstay.repository.face import GitFace
from mainstay.repository.holding import Waiting
from mainstay.repository.push import PushContext
from mainstay.repository.remark import from_memory
from mainstay.repository.streams import ByteSink, ByteSource, ClientGone
from mainstay.storage.database import DatabaseAway
from mainstay.storage.database.fence import SiteFenced

log = get_logger()

Result = TypeVar("Result")

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_UNKNOWN_COMMAND = 127

_GRACE_S = 5.0
"""Beyond the longest hold of a planned failover, whose end is decreed, not measured here."""

_COMMANDS = counter("ssh_commands_total", "Git commands over SSH.", ["service", "outcome"])
_SECONDS = histogram("ssh_seconds", "From the command to its exit.", ["service"])


class Line(ByteSource, ByteSink, Protocol):
    """Both directions, and a third for what is said to the person."""

    async def complain(self, text: str) -> None:
        """Write a line for the person at the other end (standard error)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the client wants."""

    fingerprint: str
    """Of the key it has proved to have."""
    address: str
    command: str | None
    """None: a shell."""
    git_protocol: str = ""
    hops: int = 0
    """By how many sites it was sent on before."""


@dataclass(frozen=True, slots=True)
class Here:
    """What is known of a conversation that is to be held here, on a site that has or may get a primary."""

    admission: Admission | None = None
    """Who it is and that they may, as the primary has said."""
    remark: str = ""
    """For the person behind a fetch."""


ORDINARY = Here()


class RoleChanged(Exception):
    """The site became a replica while a conversation waited at its beginning."""


class Elsewhere(Protocol):
    """Where conversations go on a replica. See `doors.ssh.replica`."""

    @property
    def is_passive(self) -> bool: ...

    async def settle(
        self, asked: Asked, *, path: str, is_push: bool, line: Line, request_id: str
    ) -> int | Here:
        """Hold it at the primary and return its exit code, or say how it is to be held here.

        Raises `ClientGone`, `OutcomeUnknown`, and `Unavailable` when the primary is needed and away.
        """
        ...


@dataclass(slots=True)
class _Note:
    """What becomes known on the way, for the log line."""

    service: str = "shell"
    project: str = ""
    actor: Actor | None = None
    outcome: str = "answered"
    because: str = ""


class Conversations:
    """Holds conversations; one object serves all of a process."""

    def __init__(
        self,
        *,
        service: GitFace,
        gate: GitGate,
        threads: Executor,
        clock: Clock,
        clone_url: Callable[[str], str],
        waiting: Waiting | None = None,
        maintenance: Lookout | None = None,
        held_max: int = 0,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`clone_url` makes the address of a project's path, to be shown to who has just made it.

        A command waits in `waiting` at its beginning, while the database is away; `held_max` of them wait
        while `maintenance` holds writes. On a replica `elsewhere` says where a conversation is held.
        """
        self._elsewhere = elsewhere
        self._service = service
        self._gate = gate
        self._threads = threads
        self._clock = clock
        self._clone_url = clone_url
        self._waiting = waiting or Waiting(hold_s=0, waiting_max=0)
        self._maintenance = maintenance or always_open(clock)
        self._switchover = Waiting(hold_s=HOLD_S_MAX + _GRACE_S, waiting_max=held_max, cause=FAILOVER)

    async def hold(self, asked: Asked, line: Line) -> int:
        """Serve one command; return the exit code. Raises `ClientGone`, `OutcomeUnknown`: hang up."""
        note, request_id, started_s = _Note(outcome="cut"), new_ulid(), self._clock.monotonic_s()
        with bound(request_id=request_id), one_request():
            try:
                return await self._hold(asked, line, note, request_id)
            finally:
                self._report(asked, note, self._clock.monotonic_s() - started_s)

    async def _hold(self, asked: Asked, line: Line, note: _Note, request_id: str) -> int:
        try:
            code = await self._serve(asked, line, note, request_id)
        except MainstayError as error:
            note.outcome, note.because = "refused", str(error)
            await line.complain(f"ERROR: {_sentence(error)}")
            return EXIT_UNKNOWN_COMMAND if isinstance(error, UnknownSshCommand) else EXIT_REFUSED
        except ClientGone:
            note.outcome = "gone"
            raise
        except OutcomeUnknown as error:
            note.outcome, note.because = "unknown", str(error)
            raise
        except Exception as error:
            note.outcome = "failed"
            log.exception("ssh.failed", kind=type(error).__name__)
            await line.complain(f"ERROR: internal error, request id {request_id}")
            return EXIT_REFUSED
        note.outcome = "answered"
        return code

    async def _serve(self, asked: Asked, line: Line, note: _Note, request_id: str) -> int:
        command = None if asked.command is None else parse(asked.command)
        await self._meet_maintenance(asked, command)
        if command is not None:
            note.service, note.project = command.service.value, project_path(_without_tilde(command.path))
        settled = await self._settle(asked, command, line, note, request_id)
        if not isinstance(settled, Here):
            return settled
        if settled.remark:
            await line.complain(settled.remark)
        if command is None:
            note.actor = await self._in_thread(lambda: self._identify(asked))
            await line.write(_greeting(note.actor).encode())
            return EXIT_OK
        try:
            admission = await self._admitted(settled, asked, command, note)
        except RoleChanged:  # nothing was said to the client yet
            return await self._serve(asked, line, note, request_id)
        await self._converse(command, admission, asked, line, request_id)
        return EXIT_OK

    @property
    def _is_passive(self) -> bool:
        return self._elsewhere is not None and self._elsewhere.is_passive

    async def _admitted(self, here: Here, asked: Asked, command: SshCommand, note: _Note) -> Admission:
        """Raises `RoleChanged`, unless it is known already that the site is a replica."""
        if here.admission is not None:
            return here.admission
        stay = None if here.remark else self._stay
        admission = await self._in_thread(lambda: self._admit(asked, command, note), stay=stay)
        if stay:
            stay()
        return admission

    def _stay(self) -> None:
        """Raises `RoleChanged` when the conversation belongs to another site by now."""
        if self._is_passive:
            raise RoleChanged

    async def _settle(
        self, asked: Asked, command: SshCommand | None, line: Line, note: _Note, request_id: str
    ) -> int | Here:
        if self._elsewhere is None or not self._elsewhere.is_passive:
            return ORDINARY
        is_push = command is not None and command.service is Service.RECEIVE_PACK
        return await self._elsewhere.settle(
            asked, path=note.project, is_push=is_push, line=line, request_id=request_id
        )

    async def _converse(
        self, command: SshCommand, admission: Admission, asked: Asked, line: Line, request_id: str
    ) -> None:
        if command.service is Service.UPLOAD_PACK:
            await self._upload_pack(admission, asked, line)
        else:
            await self._receive_pack(admission, asked, line, request_id)

    async def _meet_maintenance(self, asked: Asked, command: SshCommand | None) -> None:
        """Before anything is read from the client. Raises `Closed`, and `Held` when too many wait."""
        is_push = command is not None and command.service is Service.RECEIVE_PACK

        async def check() -> None:
            self._maintenance.check(Deed.PUSH if is_push else Deed.FETCH, address=asked.address)

        await self._switchover.through(check, on=Held)

    def _identify(self, asked: Asked) -> Actor:
        return self._gate.identify(SshKey(asked.fingerprint), address=asked.address)

    def _admit(self, asked: Asked, command: SshCommand, note: _Note) -> Admission:
        note.actor = self._identify(asked)
        action = GitAction.PULL if command.service is Service.UPLOAD_PACK else GitAction.PUSH
        return self._gate.enter(note.actor, note.project, action, create=action is GitAction.PUSH)

    async def _upload_pack(self, admission: Admission, asked: Asked, line: Line) -> None:
        assert admission.repository_id is not None, "only a push may enter a project that is not there"
        version = 2 if "version=2" in asked.git_protocol.split(":") else 0
        if admission.known_ago_s is not None:
            await line.complain(from_memory(admission.known_ago_s))
        await self._service.upload_pack(
            admission.repository_id, version=version, stateless=False, source=line, sink=line
        )

    async def _receive_pack(self, admission: Admission, asked: Asked, line: Line, request_id: str) -> None:
        assert admission.repository_id is not None, "a push over SSH makes its project before it begins"
        assert admission.rules is not None, "a push has rules"
        await self._service.receive_pack(
            admission.repository_id,
            stateless=False,
            source=line,
            sink=line,
            rules=admission.rules,
            context=PushContext(
                address=asked.address,
                transport="ssh",
                request_id=request_id,
                messages=self._messages(admission),
            ),
        )

    def _messages(self, admission: Admission) -> list[str]:
        if not admission.created:
            return []
        return [
            f"The private project {admission.path} was created.",
            f"Clone it from {self._clone_url(admission.path)}",
        ]

    async def _in_thread(
        self, function: Callable[[], Result], *, stay: Callable[[], None] | None = None
    ) -> Result:
        """Ask the gate. Asking twice is fine: a project made the first time is found the second.

        On a site with others a fence is a reason to wait, too: it falls, or `stay` ends the waiting.
        """

        async def attempt() -> Result:
            if stay:
                stay()
            context = contextvars.copy_context()
            return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, function)

        fences = [SiteFenced] if self._elsewhere else []
        return await self._waiting.through(attempt, on=(DatabaseAway, OutcomeUnknown, *fences))

    def _report(self, asked: Asked, note: _Note, elapsed_s: float) -> None:
        _COMMANDS.labels(note.service, note.outcome).inc()
        _SECONDS.labels(note.service).observe(elapsed_s)
        log.info(
            "ssh.answered",
            service=note.service,
            project=note.project,
            actor=note.actor.label if note.actor else "",
            address=asked.address,
            outcome=note.outcome,
            because=note.because,
            duration_ms=round(elapsed_s * 1000, 1),
        )


def _sentence(error: MainstayError) -> str:
    """One text for every missing thing: the message may say more than the actor should know."""
    if isinstance(error, NotFound):
        return "repository not found"
    if isinstance(error, Closed):
        return str(error)
    if isinstance(error, Unavailable):
        return f"{error}; try again in {error.retry_after_s} s"
    return str(error)


def _greeting(actor: Actor) -> str:
    if actor.kind is Kind.DEPLOY_KEY:
        return f"Welcome to Mainstay, deploy key '{actor.name}'!\n"
    return f"Welcome to Mainstay, @{actor.name}!\n"


def _without_tilde(path: str) -> str:
    """There are no homes here: `ssh://git@host/~/ada/engine` means the same as without the tilde."""
    return path.removeprefix("/").removeprefix("~/")
