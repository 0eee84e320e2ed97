"""Start, freeze and end the real programs of a local stack: by process id and start time, never by name.

Every process is started from one thread that lives as long as this program, and asks the kernel to end it
when this program is killed and cannot do so itself.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mainstay.foundation.clock import SYSTEM
from mainstay.provision.accounts import Account
from mainstay.provision.waiting import StackFailed

_PROC = Path("/proc")
_POLL_S = 0.02
_END_S_MAX = 20.0
_STATE, _PARENT, _SESSION, _STARTED = 0, 1, 3, 19
"""Fields of /proc/PID/stat after the name, which is in parentheses and may hold anything."""

_spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")
"""The kernel's death signal belongs to the thread that started a process, so that thread must not end."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int
    """Clock ticks since the machine started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, and as whom."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    """All of it: nothing is inherited."""
    directory: Path
    account: Account | None = None
    """Who runs it; None: whoever we are."""
    run_prefix: Sequence[str] = ()
    """What enters the network it runs in, such as `ip netns exec NAME`."""
    end_with: str = "KILL"
    """The signal it gets when we die."""

    def full_argv(self) -> list[str]:
        """Prefix, then dropping of privileges, then the program: the prefix may need to be root."""
        drop = [] if self.account is None else self.account.setpriv_options()
        return [*self.run_prefix, "setpriv", "--pdeathsig", self.end_with, *drop, "--", *self.argv]


@dataclass(slots=True)
class Process:
    """A started program: the leader of its own session."""

    popen: subprocess.Popen[bytes]
    identity: Identity = field(init=False)

    def __post_init__(self) -> None:
        self.identity = identity_of(self.popen.pid) or Identity(self.popen.pid, 0)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def is_running(self) -> bool:
        return self.popen.poll() is None

    def exit_code(self) -> int | None:
        return self.popen.poll()


def start(command: Command, *, log: Path) -> Process:
    """Start it with its output at the end of `log`."""
    return Process(_spawner.submit(_start, command, log).result())


def _start(command: Command, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command.full_argv(),
            env=dict(command.environment),
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in the terminal is for us, who end it in order
        )


def run(command: Command, *, log: Path, within_s: float, running: list[Process]) -> str:
    """Run to its end and return what it printed; meanwhile it is one of `running`.

    Raises `StackFailed` with the end of what it said.
    """
    process = Process(_spawner.submit(_start_to_read, command).result())
    running.append(process)
    try:
        printed, said = process.popen.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.popen.kill()
        process.popen.communicate()
        raise StackFailed(f"{command.argv[0]}: not done within {within_s:.0f} s", log=log) from None
    finally:
        running.remove(process)
    with log.open("ab") as output:
        output.write(said)
    if process.popen.returncode != 0:
        raise StackFailed(f"{' '.join(command.argv[:3])} ended with {process.popen.returncode}", log=log)
    return printed.decode(errors="replace")


def _start_to_read(command: Command) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command.full_argv(),
        env=dict(command.environment),
        cwd=command.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def identity_of(pid: int) -> Identity | None:
    """None when there is no such process, or it is dead and only waits to be looked at."""
    fields = _stat(pid)
    if fields is None or fields[_STATE] in ("Z", "X"):
        return None
    return Identity(pid, int(fields[_STARTED]))


def is_alive(identity: Identity) -> bool:
    return identity_of(identity.pid) == identity


def family(roots: Iterable[Identity]) -> list[Identity]:
    """The living among these, all their descendants, and whoever shares a session that one of them leads."""
    table = _all_processes()
    found = {root.pid for root in roots if root.pid in table and table[root.pid].identity == root}
    sessions = {root.pid for root in roots if root.pid not in table or root.pid in found}
    while True:
        more = {
            pid
            for pid, each in table.items()
            if pid not in found and (each.parent in found or each.session in sessions)
        }
        if not more:
            return [table[pid].identity for pid in sorted(found)]
        found |= more
        sessions |= more


def kill(roots: Sequence[Identity]) -> None:
    """SIGKILL to the whole family at once; returns when all of it is gone.

    Frozen first, so that no parent can start another child in place of one that died before it.
    """
    _end(freeze(roots), signal.SIGKILL, within_s=_END_S_MAX)


def stop(roots: Sequence[Identity], *, number: signal.Signals, within_s: float) -> bool:
    """Ask the roots to end; kill the family when it did not. Whether asking was enough."""
    everybody = family(roots)
    for root in roots:
        send(root, number)
    if all_gone(everybody, within_s=within_s):
        return True
    kill(everybody)
    return False


def freeze(roots: Sequence[Identity]) -> list[Identity]:
    """SIGSTOP to the whole family, those included that were started meanwhile; who that is."""
    frozen: set[Identity] = set()
    while fresh := [each for each in family(roots) if each not in frozen]:
        for each in fresh:
            send(each, signal.SIGSTOP)
        frozen.update(fresh)
    return sorted(frozen, key=lambda each: each.pid)


def thaw(roots: Sequence[Identity]) -> None:
    for each in family(roots):
        send(each, signal.SIGCONT)


def send(identity: Identity, number: signal.Signals) -> None:
    """A signal to exactly this process; nothing happens when it is gone."""
    if is_alive(identity):
        with suppress(ProcessLookupError):
            os.kill(identity.pid, number)


def _end(roots: Sequence[Identity], number: signal.Signals, *, within_s: float) -> None:
    known: set[Identity] = set(roots)
    until_s = SYSTEM.monotonic_s() + within_s
    while left := [each for each in {*family(roots), *known} if is_alive(each)]:
        if SYSTEM.monotonic_s() > until_s:
            raise StackFailed(f"processes {[each.pid for each in left]} do not end", log=None)
        for each in left:
            send(each, number)
        known.update(left)
        time.sleep(_POLL_S)


def all_gone(identities: Iterable[Identity], *, within_s: float) -> bool:
    """Wait for the end of all of them; whether it came."""
    left = list(identities)
    until_s = SYSTEM.monotonic_s() + within_s
    while left := [each for each in left if is_alive(each)]:
        if SYSTEM.monotonic_s() > until_s:
            return False
        time.sleep(_POLL_S)
    return True


@dataclass(frozen=True, slots=True)
class _Row:
    identity: Identity
    parent: int
    session: int


def _all_processes() -> dict[int, _Row]:
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    rows = {pid: _row(pid, fields) for pid in pids if (fields := _stat(pid)) is not None}
    return {pid: row for pid, row in rows.items() if row is not None}


def _row(pid: int, fields: list[str]) -> _Row | None:
    if fields[_STATE] in ("Z", "X"):
        return None
    return _Row(Identity(pid, int(fields[_STARTED])), int(fields[_PARENT]), int(fields[_SESSION]))


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return text.rpartition(")")[2].split()
