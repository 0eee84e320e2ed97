"""Start git processes: the only place that does.

Promises: no shell, no inherited environment or descriptors, arguments checked against `commands`, memory
and time limited, and nobody left behind: a process that is not needed any more is killed with its
children and reaped.

`run` waits in the calling thread and collects output. `start` and `stop` are for streaming in an event
loop; the caller pumps. Creating the process takes vfork (no preexec function), so the cost does not grow
with our memory; limits are set from outside right after, before a byte of input is fed.

Not here: what the commands mean.
"""

import asyncio
import asyncio.subprocess
import contextlib
import io
import signal
import subprocess  # noqa: TID251 - this is the room where git starts
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, BinaryIO, Final

from mainstay.foundation.errors import Unavailable
from mainstay.git.native.bounds import apply, limit_stack, signal_group
from mainstay.git.native.commands import checked
from mainstay.git.native.place import (
    DEFAULT_LIMITS,
    MIB,
    GitMissing,
    GitPlace,
    Limits,
    environment_of,
    git_program,
)
from mainstay.git.native.pump import OutputTooLong, TimeIsUp, pump

__all__ = [
    "PIPE",
    "Finished",
    "GitFailed",
    "GitMissing",
    "GitNotStarted",
    "GitPlace",
    "GitProcess",
    "GitTookTooLong",
    "GitWroteTooMuch",
    "Limits",
    "allow",
    "feed",
    "run",
    "start",
    "stop",
]

PIPE: Final = subprocess.PIPE
STREAM_LIMIT_BYTES = MIB
"""How much of a stream asyncio keeps before it stops reading from git (it stops at twice this)."""

_STOP_WAIT_S = 5.0
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Finished:
    """A git process that has ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class GitFailed(Exception):
    """Git answered with an error. Internal: whoever called knows what it means and raises a family.

    `command` holds the command and its first arguments, for the log; never show it to a user.
    """

    def __init__(self, command: str, exit_code: int, stderr: bytes) -> None:
        said = stderr.decode("utf-8", "replace").strip()[-2000:]
        super().__init__(f"git {command} ended with {exit_code}: {said}")
        self.command = command
        self.exit_code = exit_code
        self.stderr = stderr

    @property
    def is_verdict(self) -> bool:
        """Whether git ended by itself. One that was killed has said nothing about what it was asked."""
        return self.exit_code > 0


class GitTookTooLong(GitFailed):
    """The process was killed at `Limits.wall_s_max`."""


class GitWroteTooMuch(GitFailed):
    """The process was killed at `Limits.output_bytes_max`."""


class GitNotStarted(Unavailable):
    """The machine takes no further process now; the message says why."""


def run(
    place: GitPlace,
    arguments: Sequence[str | bytes],
    *,
    stdin: bytes | BinaryIO = b"",
    config: Mapping[str, str] = _NOTHING,
    environment: Mapping[str, str] = _NOTHING,
    limits: Limits = DEFAULT_LIMITS,
    check: bool = True,
    hear: Callable[[bytes], None] | None = None,
) -> Finished:
    """Run git to its end and return what it wrote; blocks the calling thread.

    Who gives `hear` gets the output chunk by chunk, however much it is, and nothing returned.

    With `check`, an exit code other than 0 raises `GitFailed`. Of stderr only the first 64 KiB are kept.
    """
    words = checked(arguments)
    source: IO[bytes] = io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin
    with _told_as_it_is():
        child = subprocess.Popen(
            [git_program(), *words],
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            bufsize=0,
            env=environment_of(place, words[0], config=config, environment=environment),
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
    with _always_ended(child):
        apply(limits, child.pid)
        limit_stack(limits, child.pid)
        finished = _collect(child, source, limits, _summary(words), hear)
    if check and finished.exit_code != 0:
        raise GitFailed(_summary(words), finished.exit_code, finished.stderr)
    return finished


def _collect(
    child: subprocess.Popen[bytes],
    source: IO[bytes],
    limits: Limits,
    summary: str,
    hear: Callable[[bytes], None] | None,
) -> Finished:
    try:
        stdout, stderr = pump(
            child,
            source,
            wall_s_max=limits.wall_s_max,
            output_bytes_max=limits.output_bytes_max,
            hear=hear,
        )
    except TimeIsUp as error:
        raise GitTookTooLong(summary, -signal.SIGKILL, b"it took too long and was stopped") from error
    except OutputTooLong as error:
        raise GitWroteTooMuch(summary, -signal.SIGKILL, b"it wrote too much and was stopped") from error
    return Finished(child.returncode, stdout, stderr)


@contextlib.contextmanager
def _told_as_it_is() -> Iterator[None]:
    """What keeps a process from starting, no memory or too many processes, is no bug."""
    try:
        yield
    except OSError as error:
        raise GitNotStarted(f"git cannot be started now: {error.strerror}") from error


@contextlib.contextmanager
def _always_ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if child.poll() is None:
            signal_group(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


class GitProcess(asyncio.subprocess.Process):
    """A running git process. `timed_out` says whether its time limit ended it."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        protocol: "_WatchedProtocol",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, loop)
        self._watched = protocol
        self._git_transport = transport

    @property
    def timed_out(self) -> bool:
        return self._watched.timed_out

    def close_pipes(self) -> None:
        """Kill the process if it still runs and let go of its pipes, read or not."""
        self._git_transport.close()


class _WatchedProtocol(asyncio.subprocess.SubprocessStreamProtocol):
    """The usual stream protocol, with a timer that ends the process and ends with it."""

    def __init__(self, *, limit: int, loop: asyncio.AbstractEventLoop, wall_s_max: float | None) -> None:
        super().__init__(limit=limit, loop=loop)
        self.timed_out = False
        self._exited = False
        self._wall_s_max = wall_s_max
        self._timer: asyncio.TimerHandle | None = None
        self._event_loop = loop

    def watch(self, pid: int) -> None:
        if self._wall_s_max is not None and not self._exited:
            self._timer = self._event_loop.call_later(self._wall_s_max, self._end, pid)

    def _end(self, pid: int) -> None:
        if not self._exited:
            self.timed_out = True
            signal_group(pid, signal.SIGKILL)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A git that closes its input early is no error: its exit code says what it thinks.

        Told of one, asyncio keeps it for who waits until the input is closed, and complains that nobody does.
        """
        super().pipe_connection_lost(fd, exc if fd else None)

    def process_exited(self) -> None:
        self._exited = True
        if self._timer is not None:
            self._timer.cancel()
        super().process_exited()


async def start(
    place: GitPlace,
    arguments: Sequence[str | bytes],
    *,
    config: Mapping[str, str] = _NOTHING,
    environment: Mapping[str, str] = _NOTHING,
    limits: Limits = DEFAULT_LIMITS,
    stdin: int | IO[bytes] = PIPE,
    stdout: int | IO[bytes] = PIPE,
    stderr: int | IO[bytes] = PIPE,
) -> GitProcess:
    """Start git; the caller feeds and reads its pipes, and calls `stop` whatever happens.

    At `limits.wall_s_max` the process and its children are killed.
    """
    words = checked(arguments)
    loop = asyncio.get_running_loop()
    with _told_as_it_is():
        transport, protocol = await loop.subprocess_exec(
            lambda: _WatchedProtocol(limit=STREAM_LIMIT_BYTES, loop=loop, wall_s_max=limits.wall_s_max),
            git_program(),
            *words,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment_of(place, words[0], config=config, environment=environment),
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
    process = GitProcess(transport, protocol, loop)
    apply(limits, process.pid)
    protocol.watch(process.pid)
    return process


async def feed(process: asyncio.subprocess.Process, chunk: bytes) -> bool:
    """Hand over a piece of input. False when git takes no more: it has heard enough, or has ended.

    Why it ended is for its exit code to say.
    """
    assert process.stdin is not None
    if process.stdin.is_closing():  # the other end is closed, and uvloop raises a RuntimeError at a write
        return False
    try:
        process.stdin.write(chunk)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


async def stop(process: asyncio.subprocess.Process) -> None:
    """End the process and its children if they still run, let go of the pipes, and wait until it is reaped.

    Asks first, kills after 5 s. When this returns or is cancelled, no process and no zombie stays.
    """
    try:
        if process.returncode is None:
            signal_group(process.pid, signal.SIGTERM)
            await _ended_within(process, _STOP_WAIT_S)
    finally:
        if process.returncode is None:
            signal_group(process.pid, signal.SIGKILL)
        if isinstance(process, GitProcess):
            process.close_pipes()
    await _ended_within(process, _STOP_WAIT_S)


async def _ended_within(process: asyncio.subprocess.Process, seconds: float) -> None:
    """Wait for the exit, throwing away what the pipes still hold: asyncio reports it only after them."""
    drains = [_drained(stream) for stream in (process.stdout, process.stderr) if stream is not None]
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(process.wait(), *drains), seconds)


async def _drained(stream: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await stream.read(STREAM_LIMIT_BYTES):
            pass


def allow(process: asyncio.subprocess.Process, limits: Limits) -> None:
    """Give a process that `start` made other limits of memory and computing, counted from its beginning."""
    if process.returncode is None:  # else the number may be another process's by now
        apply(limits, process.pid)


def _summary(words: Sequence[bytes]) -> str:
    return b" ".join(words[:6]).decode("utf-8", "replace")[:200]
