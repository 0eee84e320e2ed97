"""A real node for tests: `mainstay serve` on free loopback ports, in a directory of its own.

    with Node(tmp_path / "node", environment={"MAINSTAY_FAILPOINTS": "push.committed=kill"}) as node:
        requests to node.url, git to node.clone_url("root/engine"), node.run("fsck", "--json")

Its ports are kept over `stop`, `kill` and `start`, so clients may go on retrying.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.ports import free_port

_SHOWN_LOG_BYTES = 6000
_POLL_S = 0.02


class NodeFailed(AssertionError):
    """The node did not do what the test needs; the message has the end of its log."""


class Node:
    """One node. Starts at `with` or `start()`."""

    def __init__(
        self,
        data: Path,
        *,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        ready_s_max: float = 120.0,
        prefix: Sequence[str] = (),
        address: str = "127.0.0.1",
    ) -> None:
        """`prefix` stands in front of its commands, to run them on another host; `address` is of that."""
        self.data = data
        self.environment = dict(environment or {})
        """Variables of the next start; a test may change it between starts."""
        self.options = list(options)
        self.log = data.parent / f"{data.name}.log"
        self.output = data.parent / f"{data.name}.out"
        self._ready_s_max = ready_s_max
        self._prefix = list(prefix)
        self._http, self._ssh = (f"{address}:{free_port()}" for _ in range(2))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    # Starting and ending
    def start(self, *, wait: bool = True) -> None:
        """Start the node and wait until it is ready."""
        self.launch()
        if wait:
            self.wait_until_ready()

    def launch(self) -> None:
        """Start the process and come back at once."""
        assert self._process is None, "the node runs already"
        self.data.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *self._prefix,
            *_mainstay(),
            "serve",
            "--data",
            str(self.data),
            "--http",
            self._http,
            "--ssh",
            self._ssh,
        ]
        with self.log.open("ab") as log, self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, *self.options],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + self._ready_s_max
        while not self._is_ready():
            if self._process is None or self._process.poll() is not None:
                raise NodeFailed(f"the node ended with {self._code()} before it was ready\n{self.log_end()}")
            if time.monotonic() > deadline_s:
                raise NodeFailed(f"not ready within {self._ready_s_max:.0f} s\n{self.log_end()}")
            time.sleep(_POLL_S)

    def stop(self, *, within_s: float = 90.0, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, as Ctrl-C or systemd would, and return its exit code."""
        assert self._process is not None, "the node does not run"
        self._process.send_signal(number)
        return self.wait_until_ended(within_s=within_s)

    def wait_until_ended(self, *, within_s: float = 60.0) -> int:
        """Wait for the end of the supervisor and of all its processes."""
        assert self._process is not None, "the node does not run"
        pids = self.pids()
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise NodeFailed(f"still there after {within_s:.0f} s\n{self.log_end()}") from None
        _wait_until_gone(pids.values())
        self._process = None
        return code

    def kill(self) -> None:
        """Kill the supervisor as the kernel would; all its processes must follow. Fine when nothing runs."""
        if self._process is None:
            return
        pids = self.pids()
        self._process.kill()
        self._process.wait()
        _wait_until_gone(pids.values())
        self._process = None

    def kill_process(self, name: str) -> None:
        """Kill one process (`data`, `web`, `ssh`, `worker`); the supervisor will start another."""
        os.kill(self.pids()[name], signal.SIGKILL)

    def restart(self) -> None:
        """Stop in order, start again."""
        self.stop()
        self.start()

    # What it is like
    def state(self) -> dict[str, Any]:
        """What the supervisor last wrote; empty when this one has written nothing yet."""
        try:
            found: dict[str, Any] = json.loads((self.data / "run" / "state.json").read_text())
        except FileNotFoundError:
            return {}
        is_of_another = self._process is not None and self._process.pid != found["processes"]["serve"]["pid"]
        return {} if is_of_another else found

    def pids(self) -> dict[str, int]:
        """Process ids by name, `serve` included."""
        known = {name: each["pid"] for name, each in self.state().get("processes", {}).items()}
        return {**known, "serve": self._process.pid} if self._process else known

    @property
    def url(self) -> str:
        return f"http://{self._http}"

    @property
    def http_port(self) -> int:
        return int(self._http.rpartition(":")[2])

    @property
    def ssh_port(self) -> int:
        return int(self._ssh.rpartition(":")[2])

    def clone_url(self, path: str, *, user: str = "root", secret: str | None = None) -> str:
        """`http://root:PASSWORD@…/path.git`; by default with root's first password."""
        return f"http://{user}:{secret or self.root_password()}@{self._http}/{path}.git"

    def ssh_url(self, path: str) -> str:
        return f"ssh://git@127.0.0.1:{self.ssh_port}/{path}.git"

    def root_password(self) -> str:
        return (self.data / "initial_root_password").read_text().strip()

    def log_end(self) -> str:
        return self.log.read_bytes()[-_SHOWN_LOG_BYTES:].decode(errors="replace") if self.log.exists() else ""

    def log_lines(self) -> list[dict[str, Any]]:
        """The structured lines of the log, parsed. One that is still being written is left out."""
        lines = self.log.read_text(errors="replace").split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    # Talking to it
    def run(
        self, *arguments: str, check: bool = True, input_text: str | None = None, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run `mainstay ARGUMENTS` beside the node, on its data directory."""
        done = subprocess.run(
            [*self._prefix, *_mainstay(), *arguments],
            env={**self._environment(without=["FAILPOINTS"]), "MAINSTAY_DATA": str(self.data)},
            input=input_text,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            raise NodeFailed(f"mainstay {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def token(self, *, user: str = "root", name: str = "test", scopes: str = "api") -> str:
        """A new personal access token."""
        return self.run("token", "create", "--user", user, "--name", name, "--scopes", scopes).stdout.strip()

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """GET a path; an error status is an answer, too."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def _is_ready(self) -> bool:
        state = self.state()
        if state.get("phase") != "ready":
            return False
        self._http, self._ssh = state["http"], state["ssh"] or self._ssh
        with contextlib.suppress(OSError):
            return self._is_serving()
        return False

    def _is_serving(self) -> bool:
        return self.get("/status")[0] == 200  # the one that answers whatever the allowlist says

    def _environment(self, *, without: Sequence[str] = ()) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTAY_")}
        left_out = {f"MAINSTAY_{name}" for name in without}
        return {**ours, **{name: value for name, value in self.environment.items() if name not in left_out}}

    def _code(self) -> int | None:
        return self._process.returncode if self._process else None


def _mainstay() -> list[str]:
    return [sys.executable, "-m", "mainstay"]


def _wait_until_gone(pids: Any, *, within_s: float = 15.0) -> None:
    deadline_s = time.monotonic() + within_s
    while left := [pid for pid in pids if _is_alive(pid)]:
        if time.monotonic() > deadline_s:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise NodeFailed(f"processes {left} outlived their supervisor")
        time.sleep(_POLL_S)


def _is_alive(pid: int) -> bool:
    """Whether it runs; one that is dead to its last thread, and waits for its parent to look, does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return re.search(r"^State:\s+[ZX].*^Threads:\s+[01]$", status, re.MULTILINE | re.DOTALL) is None
