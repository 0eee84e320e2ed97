"""Starts server processes in a quarter of a second: one process imports everything once, then forks.

A node's process costs more than a second of imports, and a crash suite starts hundreds. The forked child
runs the same `main` as under `mainstay serve` (`support.crash.programs`), with the settings in its
environment and its public socket opened for it, and dies with the nursery.

    with Nursery(log) as nursery:
        child = nursery.start("data_plane", {"MAINSTAY_DATA": ...})
        child.ask("arm", "push.committed=kill")
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_READY_S_MAX = 60.0
_ANSWER_S_MAX = 60.0


class NurseryFailed(AssertionError):
    """A process did not start or did not answer; the message has the end of its log."""


class Child:
    """One started process, and the wire to `support.crash.wire` inside it."""

    def __init__(self, nursery: "Nursery", *, pid: int, port: int, wire: socket.socket) -> None:
        self.pid = pid
        self.port = port
        self._nursery = nursery
        self._wire = wire
        self._read = wire.makefile("rb")

    def ask(self, verb: str, argument: str = "") -> None:
        """Send a wish; it is done when this returns."""
        self.tell(verb, argument)
        heard = self.hear()
        assert heard == f"done {verb}", f"asked {verb!r}, heard {heard!r}"

    def tell(self, verb: str, argument: str = "") -> None:
        """Send a wish that the process may not survive."""
        self._wire.sendall(f"{verb} {argument}\n".encode())

    def hear(self, *, within_s: float = _ANSWER_S_MAX) -> str | None:
        """The next line from the process; None when it is dead."""
        self._wire.settimeout(within_s)
        try:
            return self._read.readline().decode().strip() or None
        except ConnectionResetError:
            return None
        except TimeoutError:
            raise NurseryFailed(f"process {self.pid} is silent\n{self._nursery.log_end()}") from None

    def has_spoken(self, *, within_s: float) -> bool:
        """Whether there is something to hear; death is heard, too."""
        return bool(select.select([self._wire], [], [], within_s)[0])

    def die(self) -> None:
        """Killed, not buried: that is still `kill`'s."""
        os.kill(self.pid, signal.SIGKILL)

    def freeze(self) -> None:
        """It and all that it started."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def has_died(self, *, within_s: float) -> bool:
        """Whether the process is dead, which it may still become within some time."""
        deadline_s = time.monotonic() + within_s
        while select.select([self._wire], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            if self.hear() is None:
                return True
        return False

    def kill(self) -> int:
        """Kill it, all that it started, and wait for its end; how it ended, as `Popen.returncode`."""
        code: int = self._nursery.request({"verb": "bury", "pid": self.pid})["code"]
        self._read.close()
        self._wire.close()
        return code


class Nursery:
    """The parent of the forked processes."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.crash.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**_plain_environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(_ANSWER_S_MAX)
        self._process.stdout.close()

    def start(self, program: str, environment: Mapping[str, str], *arguments: str) -> Child:
        """Start a server and wait until it is ready."""
        return self._wired(self._begin(program, environment, arguments))

    def begin(self, program: str, environment: Mapping[str, str], *arguments: str) -> Child:
        """Start a program that serves nobody, and let it run."""
        return self._wired(self._begin(program, environment, arguments, ready=False))

    def _wired(self, started: Mapping[str, Any]) -> Child:
        wire = socket.create_connection(("127.0.0.1", started["wire"]), timeout=_ANSWER_S_MAX)
        return Child(self, pid=started["pid"], port=started["port"], wire=wire)

    def run(self, program: str, environment: Mapping[str, str], *arguments: str) -> int:
        """Run a program to its end; its exit code, negative for a signal."""
        pid = self._begin(program, environment, arguments, ready=False)["pid"]
        code: int = self.request({"verb": "wait", "pid": pid})["code"]
        return code

    def request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise NurseryFailed(f"the nursery ended\n{self.log_end()}")
        answered: dict[str, Any] = json.loads(answer)
        return answered

    def log_end(self) -> str:
        return self.log.read_bytes()[-4000:].decode(errors="replace")

    def _begin(
        self, program: str, environment: Mapping[str, str], arguments: tuple[str, ...], *, ready: bool = True
    ) -> dict[str, Any]:
        started = self.request(
            {
                "verb": "start",
                "program": program,
                "environment": dict(environment),
                "arguments": arguments,
                "log": str(self.log),
                "ready": ready,
            }
        )
        if not started["ready"]:
            raise NurseryFailed(f"{program} did not get ready\n{self.log_end()}")
        return started


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MAINSTAY_")}


# In the nursery's own process


def main() -> None:
    """Serve requests from standard input until it ends; then everything that was started dies."""
    from support.crash import programs

    children: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if request["verb"] == "start":
            answer = _start(request, programs.run)
            children.add(answer["pid"])
        else:
            answer = {"code": _end(request["pid"], kill=request["verb"] == "bury")}
            children.discard(request["pid"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in children:
        _end(pid, kill=True)


def _start(request: Mapping[str, Any], run: Any) -> dict[str, Any]:
    public, wire = _listener(), _listener()
    ours, theirs = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _become(request, {"HTTP_FD": public.fileno(), "SSH_FD": public.fileno(), "READY_FD": theirs}, parent)
        run(request["program"], request["arguments"], wire)
    os.close(theirs)
    ports = {"port": public.getsockname()[1], "wire": wire.getsockname()[1]}
    public.close()
    wire.close()
    ready = not request["ready"] or _is_ready(ours)
    os.close(ours)
    return {"pid": pid, "ready": ready, **ports}


def _become(request: Mapping[str, Any], descriptors: Mapping[str, int], parent: int) -> None:
    """What `subprocess` and the supervisor do for a child: its session, its output, its environment."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ |= request["environment"]
    os.environ |= {f"MAINSTAY_{name}": str(number) for name, number in descriptors.items()}
    os.environ["MAINSTAY_PARENT_PID"] = str(parent)


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def _is_ready(descriptor: int) -> bool:
    readable, _, _ = select.select([descriptor], [], [], _READY_S_MAX)
    return bool(readable) and os.read(descriptor, 1) == b"1"


def _end(pid: int, *, kill: bool) -> int:
    if kill:
        os.killpg(pid, signal.SIGKILL)  # a zombie still has its group
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
