"""Run PostgreSQL's own programs, as the account that owns the data, and hear what they say meanwhile."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Unavailable
from mainstay.provision import processes
from mainstay.provision.accounts import Account
from mainstay.provision.processes import Command, Process
from mainstay.provision.waiting import tail

_POLL_S = 0.1
_END_S_MAX = 10.0
_LINE_BYTES_MAX = 65_536
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "LC_MESSAGES": "C"}

Tell = Callable[[str], None]


class ToolFailed(Unavailable):
    """A program of PostgreSQL ended with an error or said nothing for too long; the message has its words."""

    def __init__(self, tool: str, how: str, log: Path) -> None:
        super().__init__(f"{tool} {how}\n{tail(log)}")
        self.said = tail(log)


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs of one version, run as one account."""

    programs: Path
    account: Account | None

    def command(self, program: str, *arguments: str, directory: Path, end_with: str = "TERM") -> Command:
        return Command(
            argv=[str(self.programs / program), *arguments],
            environment=_ENVIRONMENT,
            directory=directory,
            account=self.account,
            end_with=end_with,
        )

    def run(
        self, program: str, *arguments: str, log: Path, silent_s_max: float, tell: Tell = lambda _line: None
    ) -> None:
        """Run it to its end, however long that takes while it goes on saying something. Raises `ToolFailed`.

        `tell` hears each line. When we end meanwhile, in whatever way, it ends too.
        """
        log.unlink(missing_ok=True)
        process = processes.start(self.command(program, *arguments, directory=log.parent), log=log)
        try:
            _follow(process, _Lines(log, tell), program=program, silent_s_max=silent_s_max)
        finally:
            processes.kill([process.identity])
            process.popen.wait(_END_S_MAX)

    def ask(self, program: str, *arguments: str, log: Path) -> Mapping[str, str]:
        """What one of them prints as lines of `name: value`."""
        found: dict[str, str] = {}

        def keep(line: str) -> None:
            name, _, value = line.partition(":")
            found[name.strip()] = value.strip()

        self.run(program, *arguments, log=log, silent_s_max=30.0, tell=keep)
        return found


def _follow(process: Process, lines: "_Lines", *, program: str, silent_s_max: float) -> None:
    heard_s = SYSTEM.monotonic_s()
    while (code := process.exit_code()) is None:
        if lines.pass_on():
            heard_s = SYSTEM.monotonic_s()
        elif SYSTEM.monotonic_s() - heard_s > silent_s_max:
            raise ToolFailed(program, f"said nothing for {silent_s_max:.0f} s", lines.log)
        time.sleep(_POLL_S)
    lines.pass_on(at_end=True)
    if code != 0:
        raise ToolFailed(program, f"ended with {code}", lines.log)


class _Lines:
    """What is new in a log, line by line; a carriage return ends one, too, as progress has it."""

    def __init__(self, log: Path, tell: Tell) -> None:
        self.log = log
        self._tell = tell
        self._at = 0
        self._rest = b""

    def pass_on(self, *, at_end: bool = False) -> bool:
        """Whether there was anything new."""
        with self.log.open("rb") as file:
            file.seek(self._at)
            fresh = file.read()
        self._at += len(fresh)
        *lines, rest = (self._rest + fresh).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[-_LINE_BYTES_MAX:]
        for line in [*lines, *([self._rest] if at_end else [])]:
            if line.strip():
                self._tell(line.decode(errors="replace").strip())
        return bool(fresh)


def join(arguments: Sequence[str | None]) -> list[str]:
    """Those that are there."""
    return [each for each in arguments if each is not None]
