"""Kill or fail one thread of a running process at its N-th system call of a kind, with strace.

strace counts for each thread by itself, so it is attached to one thread, which is held at a gate
(`support.crash.wire`) until that is done. Where the calls are made by threads of a library, as those of the
cloud stores are, it is attached to all threads, and the N-th call of any of them acts.
"""

import contextlib
import re
import select
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.servers import end, program, skip_missing

CHANGING = (
    "openat", "write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "ftruncate", "link", "linkat",
    "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir",
    "connect", "sendto", "sendmsg",
)  # fmt: skip
"""Calls by which a process changes files or speaks to others."""

FAILING = {
    "fsync": "EIO",
    "fdatasync": "EIO",
    "write": "ENOSPC",
    "pwrite64": "ENOSPC",
    "ftruncate": "EIO",
    "link": "EIO",
    "linkat": "EIO",
    "mkdir": "ENOSPC",
    "openat": "EMFILE",
}
"""What a disk may say to them."""

_ATTACH_S_MAX = 20.0
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\(")


@dataclass(frozen=True, order=True)
class Call:
    """The N-th call of this kind after the gate."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}#{self.number}"

    def killing(self) -> str:
        return f"{self.name}:signal=SIGKILL:when={self.number}"

    def failing(self) -> str:
        return f"{self.name}:error={FAILING[self.name]}:when={self.number}"


@contextlib.contextmanager
def attached(thread: int, *, injection: str = "", log: Path | None = None, all_of: int = 0) -> Iterator[None]:
    """Trace the thread, or all threads of the process `all_of`, for the length of the block.

    Skips the test where strace is missing or not permitted.
    """
    traced = ["-f", "-p", str(all_of)] if all_of else ["-p", str(thread)]
    asked = ["-e", "trace=" + ",".join(f"?{name}" for name in CHANGING), "-e", "signal=none"]
    injected = ["-e", f"inject={injection}"] if injection else []
    output = ["-o", str(log or "/dev/null")]
    process = subprocess.Popen(
        [program("strace"), *traced, *asked, *injected, *output],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    with process.stderr:
        try:
            _wait_until_attached(process)
            yield
        finally:
            end(process)


def _wait_until_attached(process: "subprocess.Popen[bytes]") -> None:
    assert process.stderr is not None
    said = b""
    deadline = time.monotonic() + _ATTACH_S_MAX
    while b" attached" not in said:
        readable, _, _ = select.select([process.stderr], [], [], max(0.0, deadline - time.monotonic()))
        chunk = process.stderr.read1(4096) if readable else b""  # type: ignore[attr-defined]
        if not chunk:
            if b"not permitted" in said:
                skip_missing("strace", "tracing is not permitted here: " + said.decode(errors="replace"))
            raise AssertionError(f"strace did not attach: {said!r}")
        said += chunk


@contextlib.contextmanager
def counted(thread: int, found: Counter[str], *, all_of: int = 0) -> Iterator[None]:
    """Trace without a change, and put into `found` how often each call was made.

    Of all threads: how often the one made it that made it most often.
    """
    with tempfile.TemporaryDirectory(prefix="mainstay-strace-") as directory:
        log = Path(directory) / "log"
        with attached(thread, log=log, all_of=all_of):
            yield
        by_thread: dict[str, Counter[str]] = {}
        for line in log.read_text(errors="replace").splitlines():
            if match := _LINE.match(line):
                owner = line.split()[0] if all_of else ""
                by_thread.setdefault(owner, Counter())[match[1]] += 1
    for counts in by_thread.values():
        for name, count in counts.items():
            found[name] = max(found[name], count)


def calls_of(counts: Counter[str]) -> list[Call]:
    """Every single call."""
    return [Call(name, number) for name in sorted(counts) for number in range(1, counts[name] + 1)]
