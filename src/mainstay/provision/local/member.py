"""One part of a local stack: a program (or a few that belong together) that can be started, frozen, killed.

member.kill()                   SIGKILL to all its processes at once, returns when they are gone
member.start()                  again, on the same ports and data; returns when it answers
member.freeze(), member.thaw()  SIGSTOP and SIGCONT to all of them: connections open, nothing answers
member.stop()                   in order; killed when it takes longer than its time
member.is_up()                  whether it answers now, within a second
"""

import http.client
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mainstay.provision import processes
from mainstay.provision.local.ports import Reservation
from mainstay.provision.processes import Command, Identity, Process
from mainstay.provision.waiting import StackFailed, wait_until

State = Literal["up", "starting", "frozen", "down"]

ANSWER_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member runs: an address of its own, and what enters the network that has it.

    `Place("10.9.0.11", ("ip", "netns", "exec", "node1"))` runs it in a network namespace. Whoever uses the
    stack must reach the address too, because that is how starts are awaited.
    """

    host: str = "127.0.0.1"
    run_prefix: tuple[str, ...] = ()


HERE = Place()


class Member(ABC):
    """What all parts share. Not for use from two threads at once."""

    what = "a program"
    """For people."""
    start_s_max = 60.0
    stop_s_max = 20.0
    stop_signal = signal.SIGTERM

    def __init__(self, name: str, *, place: Place, directory: Path) -> None:
        self.name = name
        self.place = place
        self.directory = directory
        self.log = directory / f"{name}.log"
        """Everything it printed, over all its starts."""
        self._processes: list[Process] = []
        self._tools: list[Process] = []
        self._closed = False
        self._reservations: list[Reservation] = []
        self._frozen = False
        self._lock = threading.RLock()
        directory.mkdir(parents=True, exist_ok=True)

    # What each kind of member says
    @abstractmethod
    def _launch(self) -> None:
        """Start its processes with `_spawn`."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it does its work now. Takes at most a second; never raises for one that is away."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it is, for people."""

    # What one can do with it
    def start(self, *, wait: bool = True, within_s: float | None = None) -> None:
        """Start it when it does not run; with `wait` return when it answers."""
        with self._lock:
            if not self.is_running():
                self._processes = []
                self._launch()
        if wait:
            self.wait_until_up(within_s=within_s)

    def wait_until_up(self, *, within_s: float | None = None) -> None:
        """Raises `StackFailed` with the end of its log."""
        wait_until(
            self.is_up,
            within_s=within_s or self.start_s_max,
            what=f"start of {self.name}",
            log=self.log,
            still_possible=self.is_running,
        )

    def stop(self, *, within_s: float | None = None) -> bool:
        """End it in order; kill it when that takes too long. Whether it ended by itself."""
        with self._lock:
            if self._frozen:
                self.thaw()
            in_time = processes.stop(
                self.identities(), number=self.stop_signal, within_s=within_s or self.stop_s_max
            )
            self._reap()
            return in_time

    def kill(self) -> None:
        """SIGKILL to all of it at once. Fine when it does not run."""
        with self._lock:
            processes.kill(self.identities())
            self._reap()

    def freeze(self) -> None:
        with self._lock:
            processes.freeze(self.identities())
            self._frozen = True

    def thaw(self) -> None:
        with self._lock:
            processes.thaw(self.identities())
            self._frozen = False

    def restart(self) -> None:
        self.stop()
        self.start()

    def heal(self) -> None:
        """Whatever was done to it: make it run and answer again."""
        if self._frozen:
            self.thaw()
        self.start()

    def may_start(self) -> bool:
        """False at the end of the stack."""
        return not self._closed

    def is_running(self) -> bool:
        """Whether all its processes are there, answering or not."""
        return bool(self._processes) and all(each.is_running() for each in self._processes)

    def is_up(self) -> bool:
        return self.is_running() and not self._frozen and self._answers()

    def state(self) -> State:
        if self._frozen:
            return "frozen"
        if not self.is_running():
            return "down"
        return "up" if self._answers() else "starting"

    def identities(self) -> Sequence[Identity]:
        """The processes at the root of all that it runs."""
        return [each.identity for each in [*self._processes, *self._tools]]

    def pids(self) -> list[int]:
        """Every process of it, children included."""
        return [each.pid for each in processes.family(self.identities())]

    def forbid_starts(self) -> None:
        """From now on nothing of it is started; a start under way fails."""
        self._closed = True

    def close(self) -> None:
        """Give its ports back; it will not be started again."""
        self.forbid_starts()
        for each in self._reservations:
            each.close()

    # For the kinds of members
    def _reserve_port(self) -> int:
        """A port for all its starts."""
        self._reservations.append(Reservation())
        return self._reservations[-1].port

    def _spawn(self, command: Command) -> None:
        self._refuse_when_closed()
        self._processes.append(processes.start(command, log=self.log))

    def _run(self, command: Command, *, within_s: float) -> str:
        """Run a tool to its end and return what it printed. Raises `StackFailed` with what it said."""
        self._refuse_when_closed()
        return processes.run(command, log=self.log, within_s=within_s, running=self._tools)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise StackFailed(f"{self.name} is being ended", log=None)

    def _reap(self) -> None:
        for each in self._processes:
            with suppress(OSError):
                each.popen.wait(ANSWER_S_MAX)
        self._frozen = False


def http_status(host: str, port: int, path: str, *, within_s: float = ANSWER_S_MAX) -> int | None:
    """The status of a GET; None when nobody answers in time."""
    answer = http_get(host, port, path, within_s=within_s)
    return None if answer is None else answer[0]


def http_get(host: str, port: int, path: str, *, within_s: float = ANSWER_S_MAX) -> tuple[int, bytes] | None:
    return http_request("GET", host, port, path, within_s=within_s)


def http_request(
    method: str,
    host: str,
    port: int,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    within_s: float = ANSWER_S_MAX,
) -> tuple[int, bytes] | None:
    """Status and body; None when nobody answers in time."""
    with closing(http.client.HTTPConnection(host, port, timeout=within_s)) as connection:
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return None


def is_listening(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(ANSWER_S_MAX)
        return probe.connect_ex((host, port)) == 0


def plain_environment(**more: str) -> dict[str, str]:
    """For foreign programs: nothing of ours."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", **more}
