"""What a server has used: CPU of all its processes, memory of all but git's."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CLOSE_S_MAX = 5
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat."""

    pid: int
    parent_pid: int
    name: str
    resident_bytes: int
    anonymous_bytes: int
    """Resident without mapped files, which are shared with the page cache. What several processes share
    because one was forked from another counts for each of them in part."""


def tree(*roots: int) -> list[Process]:
    """The processes `roots` and all that descend from them, now."""
    everybody = {process.pid: process for process in _everybody()}
    children: dict[int, list[int]] = {}
    for process in everybody.values():
        children.setdefault(process.parent_pid, []).append(process.pid)
    found: list[Process] = []
    waiting = [pid for pid in roots if pid in everybody]
    while waiting:
        pid = waiting.pop()
        found.append(everybody[pid])
        waiting.extend(children.get(pid, []))
    return found


def _everybody() -> Iterator[Process]:
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                yield _read(directory)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked


def _read(directory: Path) -> Process:
    # The name is in parentheses and may itself hold spaces and parentheses.
    head, _, tail = (directory / "stat").read_text().rpartition(")")
    pid, _, name = head.partition(" (")
    fields = tail.split()
    resident = int((directory / "statm").read_text().split()[1])
    shares = dict(line.split(":", 1) for line in (directory / "smaps_rollup").read_text().splitlines()[1:])
    return Process(
        pid=int(pid),
        parent_pid=int(fields[1]),
        name=name,
        resident_bytes=resident * _PAGE_BYTES,
        anonymous_bytes=int(shares["Pss_Anon"].split()[0]) * 1024 if shares else 0,
    )


class Group:
    """A control group that a server is started in, so that no process of it escapes the account.

    Summing /proc would miss what nobody waits for: fcgiwrap ignores SIGCHLD, so the time of the git
    processes below it is added to nobody. Needs root; otherwise CPU is not measured (None).
    """

    def __init__(self, name: str) -> None:
        self._directory = _make_group(f"mainstay-bench-{os.getpid()}-{name}")

    def argv(self, *command: str) -> list[str]:
        """The command, started inside the group."""
        if self._directory is None:
            return list(command)
        enter = f'echo $$ > {self._directory}/cgroup.procs && exec "$0" "$@"'
        return ["sh", "-c", enter, *command]

    def cpu_s(self) -> float | None:
        """Seconds of CPU that everything ever started in the group has used."""
        if self._directory is None:
            return None
        usage = self._directory / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        statistics = dict(line.split() for line in (self._directory / "cpu.stat").read_text().splitlines())
        return int(statistics["usage_usec"]) / 1e6

    def close(self) -> None:
        """End what is still in the group, and remove it."""
        if self._directory is None:
            return
        deadline = time.monotonic() + _CLOSE_S_MAX
        while left := (self._directory / "cgroup.procs").read_text().split():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if time.monotonic() > deadline:
                return  # not ours to reap: an empty group stays behind
            time.sleep(0.02)
        self._directory.rmdir()


def _make_group(name: str) -> Path | None:
    for parent in (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup")):
        directory = parent / name
        try:
            directory.mkdir()
        except OSError:
            continue
        if (directory / "cgroup.procs").exists():
            return directory
        directory.rmdir()
    return None


def without_git(processes: list[Process]) -> list[Process]:
    """The server's own processes: git is what everybody starts."""
    return [process for process in processes if not process.name.startswith("git")]
