"""What a node's processes use: memory of the servers and of every git process, sampled from /proc.

with Sampled(node) as sampled:
    a push
sampled.git_peak_mib, sampled.server_growth_mib
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from support.node import Node

_PROC = Path("/proc")
_EVERY_S = 0.005
_NO_SERVERS = {"serve", "worker"}


class Sampled:
    """Watches while the block runs. Git processes that live a few milliseconds may be missed."""

    def __init__(self, node: Node) -> None:
        pids = node.pids()
        self._servers = [pid for name, pid in pids.items() if name not in _NO_SERVERS]
        self._all = list(pids.values())
        self._resting_kib = {pid: _memory_kib(pid, "VmRSS") for pid in self._servers}
        self._highest_kib = dict(self._resting_kib)
        self._git_kib: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def git_peak_mib(self) -> float:
        """Of the largest git process."""
        return max(self._git_kib.values(), default=0) / 1024

    @property
    def git_peaks_mib(self) -> dict[str, float]:
        """The same by command."""
        return {name: kib / 1024 for name, kib in self._git_kib.items()}

    @property
    def server_growth_mib(self) -> float:
        """Of the server process that grew most."""
        return max(self._highest_kib[pid] - self._resting_kib[pid] for pid in self._servers) / 1024

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            for pid in self._servers:
                self._highest_kib[pid] = max(self._highest_kib[pid], _memory_kib(pid, "VmRSS"))
            for pid in descendants(self._all):
                name = _git_command(pid)
                if name:
                    self._git_kib[name] = max(self._git_kib.get(name, 0), _memory_kib(pid, "VmHWM"))


def git_children(node: Node) -> list[int]:
    """Git processes that the node runs now."""
    return [pid for pid in descendants(node.pids().values()) if _git_command(pid)]


def open_files(node: Node, name: str) -> int:
    """Of all processes whose name begins so: `data` is `data`, `data-2` and so on."""
    pids = [pid for each, pid in node.pids().items() if each.startswith(name)]
    return sum(len(list((_PROC / str(pid) / "fd").iterdir())) for pid in pids)


def wait_until_quiet(node: Node, *, within_s: float = 15.0) -> None:
    """No git process and no quarantined push is left; what is there must go by itself."""
    deadline_s = time.monotonic() + within_s
    while left := [*git_children(node), *(node.data / "quarantine").iterdir()]:
        assert time.monotonic() < deadline_s, f"still there: {left}"
        time.sleep(0.02)


def descendants(pids: Iterable[int]) -> Iterator[int]:
    """All processes below these."""
    waiting = list(pids)
    while waiting:
        children = list(_children(waiting.pop()))
        waiting += children
        yield from children


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def _git_command(pid: int) -> str:
    """`index-pack`, `rev-list`, …; empty when it is no git process."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    is_git = words[0].rpartition(b"/")[2] == b"git"
    return words[1].decode(errors="replace") if is_git and len(words) > 1 else ""


def _memory_kib(pid: int, field: str) -> int:
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return 0
    lines = (line.split() for line in status.splitlines() if line.startswith(f"{field}:"))
    return next((int(words[1]) for words in lines), 0)
