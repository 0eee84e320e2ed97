"""One child process of the supervisor: start it, hear when it is ready, see it end.

It is born from the nursery where there is one, and executed else. After that there is no difference.
"""

import os
import signal
import subprocess  # noqa: TID251 - this is where servers start
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mainstay.boot.nursery import NoBirth, Nursery
from mainstay.foundation.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and with which of our descriptors."""

    name: str
    module: str
    inherits: Mapping[str, int]
    """Listening sockets by the name under which the child looks for them."""


class Process(Protocol):
    """What `subprocess.Popen` has and `Born` has, too."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def send_signal(self, number: int) -> None: ...


class Born:
    """A process that became our child by adoption."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._code: int | None = None

    @property
    def pid(self) -> int:
        return self._pid

    def poll(self) -> int | None:
        if self._code is None:
            found, status = os.waitpid(self._pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if found else None
        return self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._pid, number)


class Running:
    """A started child."""

    def __init__(
        self,
        program: Program,
        environment: Mapping[str, str],
        clock: Clock,
        *,
        nursery: Nursery | None = None,
    ) -> None:
        """Raises `NoBirth` when the nursery does not answer; then nothing runs."""
        self.program = program
        self.ready = False
        self.ready_fd, theirs = os.pipe()
        os.set_blocking(self.ready_fd, False)
        self._clock = clock
        self._started_s = clock.monotonic_s()
        try:
            self._process: Process = _start(program, environment, ready_fd=theirs, nursery=nursery)
        except NoBirth:
            os.close(self.ready_fd)
            raise
        finally:
            os.close(theirs)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ran_s(self) -> float:
        return self._clock.monotonic_s() - self._started_s

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def hear(self) -> None:
        """Read what came through the pipe: a byte says ready, the end of it says nothing more comes."""
        try:
            self.ready = self.ready or os.read(self.ready_fd, 1) == b"1"
        except BlockingIOError:
            return

    def ask_to_stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with all it started: each child leads a process group of its own."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def forget(self) -> None:
        os.close(self.ready_fd)

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_code() is None:
            self._process.send_signal(number)


def _start(
    program: Program, environment: Mapping[str, str], *, ready_fd: int, nursery: Nursery | None
) -> Process:
    descriptors = {**program.inherits, "READY_FD": ready_fd}
    ours = {"MAINSTAY_PARENT_PID": str(os.getpid()), "MAINSTAY_PROCESS": program.name}
    if nursery is not None:
        return Born(nursery.bear(program.module, {**environment, **ours}, descriptors))
    named = {f"MAINSTAY_{name}": str(number) for name, number in descriptors.items()}
    return subprocess.Popen(
        _command(program),
        env={**environment, **named, **ours},
        pass_fds=list(descriptors.values()),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor only, which stops in order
    )


def _command(program: Program) -> Sequence[str]:
    return [sys.executable, "-m", program.module]
