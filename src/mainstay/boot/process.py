"""One child process of the supervisor: start it, hear when it is ready, see it end."""

import os
import signal
import subprocess  # noqa: TID251 - this is where servers start
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mainstay.foundation.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and with which of our descriptors."""

    name: str
    module: str
    inherits: Mapping[str, int]
    """Listening sockets by the name under which the child looks for them."""


class Running:
    """A started child."""

    def __init__(self, program: Program, environment: Mapping[str, str], clock: Clock) -> None:
        self.program = program
        self.ready = False
        self.ready_fd, theirs = os.pipe()
        os.set_blocking(self.ready_fd, False)
        self._clock = clock
        self._started_s = clock.monotonic_s()
        try:
            self._process = _start(program, environment, ready_fd=theirs)
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


def _start(program: Program, environment: Mapping[str, str], *, ready_fd: int) -> subprocess.Popen[bytes]:
    descriptors = {**program.inherits, "READY_FD": ready_fd}
    named = {f"MAINSTAY_{name}": str(number) for name, number in descriptors.items()}
    ours = {"MAINSTAY_PARENT_PID": str(os.getpid()), "MAINSTAY_PROCESS": program.name}
    return subprocess.Popen(
        _command(program),
        env={**environment, **named, **ours},
        pass_fds=list(descriptors.values()),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor only, which stops in order
    )


def _command(program: Program) -> Sequence[str]:
    return [sys.executable, "-m", program.module]
