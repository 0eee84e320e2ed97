"""`mainstay serve`: the parent of a node's processes.

Start: lock the data directory, open the public sockets, prepare the truth, start the processes, and when
all are ready say what to type next. Run: restart what ends (`fate` decides). Stop, on SIGTERM or Ctrl-C:

1. readiness turns 503, and for `drain_notice_seconds` balancers have time to see it; then the data plane
   and SSH stop accepting and finish what is under way;
2. the web process and the worker stop, because requests passed on by the data plane needed them;
3. last the node's own database, where there is one (`database_url = managed`; it is also started first);
4. whatever is left after its time is killed. A second Ctrl-C does that at once.
"""

import os
import selectors
import signal
import socket
import subprocess  # noqa: TID251 - this is where servers start
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from mainstay.boot import fate
from mainstay.boot.layout import Layout, make_directories, wipe_leftovers
from mainstay.boot.listening import PortTaken, PublicSockets, open_sockets
from mainstay.boot.locks import pid_lock
from mainstay.boot.numbers import forget_dead
from mainstay.boot.nursery import NoBirth, Nursery, reap_strangers
from mainstay.boot.parsing import Role
from mainstay.boot.process import Program, Running
from mainstay.boot.settings import NodeSettings, as_text, remember
from mainstay.boot.state import DATABASE, SITES, NodeState, Phase, ProcessState, data_names, write_state
from mainstay.boot.tls import certificate_of
from mainstay.cluster.sites.positions import Positions
from mainstay.foundation import failpoints
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.retry import Schedule, retry
from mainstay.foundation.settings import child_environment, from_environment
from mainstay.storage.feed.log import Feed

log = get_logger()

_TICK_S = 1.0
_CRASH_PATIENCE = Schedule(attempts_max=40, first_pause_s=0.3, pause_max_s=0.3)
"""Six seconds or so."""
_WEB_STOP_S = 10.0
_DATABASE_STOP_S = 90.0
"""It writes everything it has in memory."""
_SLACK_S = 5.0
"""The processes keep to `drain_seconds` themselves; this much later they are not believed any more."""

Announce = Callable[[NodeSettings], None]


class NodeFailed(Unavailable):
    """A process cannot start, so there is no node."""


def serve(settings: NodeSettings, *, announce: Announce, clock: Clock = SYSTEM) -> None:
    """Run a node until it is told to stop. Raises a known error when it cannot start."""
    failpoints.arm(from_environment("FAILPOINTS") or "")  # a typing error is said here, not by four children
    failpoints.arm("")
    layout = Layout(settings.data)
    make_directories(layout)
    with pid_lock(layout.pid):
        wipe_leftovers(layout)
        if settings.https:
            certificate_of(settings)  # an unusable one is said here, in the terminal
        sockets, actual = (
            _sockets_after_a_crash(settings) if layout.state.exists() else open_sockets(settings)
        )
        remember(actual)
        if settings.sites:
            Feed(layout.feed).begin()
            Positions(layout.sites).begin()
        else:
            Feed(layout.feed).forget()
        Supervisor(actual, layout, sockets=sockets, announce=announce, clock=clock).run()


def _sockets_after_a_crash(settings: NodeSettings) -> tuple[PublicSockets, NodeSettings]:
    """The parent was killed: a child of its last moment may hold the sockets until it notices."""
    return retry(lambda: open_sockets(settings), on=PortTaken, schedule=_CRASH_PATIENCE)


class Supervisor:
    """One run of a node."""

    def __init__(
        self,
        settings: NodeSettings,
        layout: Layout,
        *,
        sockets: PublicSockets,
        announce: Announce,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._sockets = sockets
        self._announce = announce
        self._clock = clock
        self._environment = child_environment(
            {"DATA": str(settings.data), **{name.upper(): text for name, text in as_text(settings).items()}},
            metrics_in=layout.metrics,
        )
        self._programs = programs(
            data_fds=sockets.inherited_by_data(),
            ssh_fd=sockets.ssh.fileno() if sockets.ssh else None,
            rpc_fd=sockets.rpc.fileno() if sockets.rpc else None,
            data_processes=settings.data_processes,
            roles=settings.roles,
            has_sites=settings.sites is not None,
        )
        self._database = (
            _program(DATABASE, module="managed_database") if settings.database_is_managed else None
        )
        self._running: dict[str, Running] = {}
        self._failures: dict[str, int] = {}
        self._restarts: dict[str, int] = {}
        self._due_s: dict[str, float] = {}
        self._phase: Phase = "starting"
        self._was_ready = False
        self._stops_asked = 0
        self._selector = selectors.DefaultSelector()
        self._nursery: Nursery | None = None

    def run(self) -> None:
        with _signals(self._ask_to_stop, self._selector):
            try:
                self._start_database()
                self._open_nursery()  # it imports while the truth is prepared
                self._prepare()
                for program in self._programs if not self._stops_asked else ():
                    self._start(program)
                while not self._stops_asked:
                    self._turn()
                self._drain()
            finally:
                self._kill_the_rest()

    def _start_database(self) -> None:
        """Everything else needs it, so it answers before anything else starts."""
        if self._database is None or self._stops_asked:
            return
        self._start(self._database)
        while not self._stops_asked and not self._is_ready(self._database.name):
            self._turn()

    def _is_ready(self, name: str) -> bool:
        return name in self._running and self._running[name].ready

    def _prepare(self) -> None:
        """Run `boot.prepare`; it has said what is wrong, so its code is all that is left to pass on."""
        environment = {**self._environment, "MAINSTAY_PARENT_PID": str(os.getpid())}
        command = [sys.executable, "-m", "mainstay.boot.prepare"]
        # A session of its own: Ctrl-C waits for a migration to end instead of breaking it off.
        if self._stops_asked:
            return
        ended = subprocess.run(command, env=environment, check=False, start_new_session=True)
        if ended.returncode != 0 and not self._stops_asked:
            sys.exit(ended.returncode if ended.returncode > 0 else 1)

    def _open_nursery(self) -> Nursery | None:
        """The one there is, or a new one; None where there can be none."""
        if self._nursery is None and sys.platform == "linux":
            modules = list(dict.fromkeys(program.module for program in self._programs))
            self._nursery = Nursery(modules, self._environment)
        return self._nursery

    def _close_nursery(self) -> None:
        if self._nursery is not None:
            self._nursery.close()
        self._nursery = None

    def _started(self, program: Program) -> Running:
        """From the nursery, from a new one when that is dead, and else like any other process.

        The database does not wait until everything is imported.
        """
        for _ in range(2):
            nursery = self._open_nursery() if program is not self._database else None
            if nursery is None:
                break
            try:
                return Running(program, self._environment, self._clock, nursery=nursery)
            except NoBirth as failed:
                log.warning("boot.nursery_failed", because=str(failed))
                self._close_nursery()
        return Running(program, self._environment, self._clock)

    def _start(self, program: Program) -> None:
        running = self._started(program)
        self._running[program.name] = running
        self._selector.register(running.ready_fd, selectors.EVENT_READ, running)
        log.info("boot.process_started", name=program.name, pid=running.pid)
        self._write_state()

    def _turn(self) -> None:
        """One round: wait for news or a second, then look at everything."""
        self._listen_for_news()
        for running in list(self._running.values()):
            if (code := running.exit_code()) is not None:
                self._bury(running, code)
        for program in self._all_programs:
            if self._due_s.get(program.name, float("inf")) <= self._clock.monotonic_s():
                del self._due_s[program.name]
                self._start(program)
        if self._nursery is not None and self._nursery.has_ended:
            log.warning("boot.nursery_ended")
            self._close_nursery()
        reap_strangers([running.pid for running in self._running.values()] + self._nursery_pid())
        if not self._was_ready and self._all_ready():
            self._become_ready()

    def _nursery_pid(self) -> list[int]:
        return [self._nursery.pid] if self._nursery else []

    def _listen_for_news(self) -> None:
        for key, _ in self._selector.select(self._patience_s()):
            if isinstance(key.data, Running):
                key.data.hear()
                self._selector.unregister(key.fd)
                self._write_state()
            else:
                os.read(key.fd, 4096)

    def _patience_s(self) -> float:
        """A second, or less when a restart is due before."""
        now_s = self._clock.monotonic_s()
        return min([_TICK_S, *(max(0.0, due_s - now_s) for due_s in self._due_s.values())])

    def _bury(self, running: Running, code: int) -> None:
        name = running.program.name
        ended = fate.Ended(
            process=name,
            exit_code=code,
            ran_s=running.ran_s,
            was_ready=running.ready,
            failures_before=self._failures.get(name, 0),
        )
        decision = fate.decide(ended, node_was_ready=self._was_ready, stopping=self._phase == "draining")
        say = log.info if isinstance(decision, fate.LetRest) else log.warning
        say("boot.process_ended", name=name, code=code, because=decision.because)
        self._forget(running)
        if isinstance(decision, fate.StopNode):
            raise NodeFailed(decision.because)
        if isinstance(decision, fate.Restart):
            self._failures[name] = decision.failures
            self._restarts[name] = self._restarts.get(name, 0) + 1
            self._due_s[name] = self._clock.monotonic_s() + decision.pause_s

    def _forget(self, running: Running) -> None:
        running.kill()  # what it started must not outlive it
        forget_dead(self._layout.metrics)
        del self._running[running.program.name]
        if running.ready_fd in self._selector.get_map():
            self._selector.unregister(running.ready_fd)
        running.forget()
        self._write_state()

    @property
    def _all_programs(self) -> Sequence[Program]:
        """In start order."""
        return [*([self._database] if self._database else []), *self._programs]

    def _all_ready(self) -> bool:
        return len(self._running) == len(self._all_programs) and all(
            each.ready for each in self._running.values()
        )

    def _become_ready(self) -> None:
        self._was_ready = True
        self._phase = "ready"
        self._write_state()
        log.info("boot.node_ready", http=str(self._settings.http), ssh=str(self._settings.ssh))
        self._announce(self._settings)

    def _drain(self) -> None:
        """As the module says. Our ends of the sockets are closed when their servers stop accepting, because
        as long as anybody holds one open, the kernel takes connections that nobody will answer.
        """
        self._phase = "draining"
        self._write_state()
        log.info("boot.drain_started", drain_seconds=self._settings.drain_seconds)
        git_doors = [*data_names(self._settings.data_processes), "ssh", "rpc"]
        self._ask_to_end(git_doors)
        self._wait_for_end(git_doors, within_s=self._settings.drain_notice_seconds)
        self._sockets.close()
        self._wait_for_end(git_doors, within_s=self._settings.drain_seconds + _SLACK_S)
        self._ask_to_end(["web", "worker", SITES])
        self._wait_for_end(["web", "worker", SITES], within_s=_WEB_STOP_S)
        self._ask_to_end([DATABASE])
        self._wait_for_end([DATABASE], within_s=_DATABASE_STOP_S)
        log.info("boot.node_stopped", left=sorted(self._running))

    def _ask_to_end(self, names: Sequence[str]) -> None:
        for name in self._still(names):
            self._running[name].ask_to_stop()

    def _wait_for_end(self, names: Sequence[str], *, within_s: float) -> None:
        until_s = self._clock.monotonic_s() + within_s
        while self._still(names) and self._stops_asked < 2 and self._clock.monotonic_s() < until_s:  # noqa: PLR2004 - twice means now
            self._listen_for_news()
            for name in self._still(names):
                if (code := self._running[name].exit_code()) is not None:
                    self._bury(self._running[name], code)

    def _still(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self._running]

    def _kill_the_rest(self) -> None:
        for running in self._running.values():
            log.warning("boot.process_killed", name=running.program.name)
            running.kill()
        self._close_nursery()
        self._sockets.close()
        self._selector.close()
        self._layout.state.unlink(missing_ok=True)

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stops_asked += 1

    def _write_state(self) -> None:
        processes = {
            name: ProcessState(pid=each.pid, restarts=self._restarts.get(name, 0), ready=each.ready)
            for name, each in self._running.items()
        }
        state = NodeState(
            phase=self._phase,
            http=str(self._settings.http),
            ssh=str(self._settings.ssh) if self._sockets.ssh else "",
            processes={"serve": ProcessState(pid=os.getpid(), ready=True), **processes},
        )
        write_state(self._layout.state, state)


def programs(
    *,
    data_fds: Mapping[str, int],
    ssh_fd: int | None,
    rpc_fd: int | None = None,
    data_processes: int,
    roles: Collection[Role],
    has_sites: bool = False,
) -> Sequence[Program]:
    """The processes of a node, in start order: what needs longest to start goes first.

    The data processes share one socket; whichever is free takes the next connection. They always run: health,
    metrics and the heart are theirs.
    """
    return [
        *([_program("web")] if "web" in roles else []),
        *[_program(name, module="data_plane", inherits=data_fds) for name in data_names(data_processes)],
        *([_program("ssh", inherits={"SSH_FD": ssh_fd})] if ssh_fd is not None else []),
        *([_program("rpc", inherits={"RPC_FD": rpc_fd})] if rpc_fd is not None else []),
        *([_program("worker")] if "worker" in roles else []),
        *([_program(SITES, module="site_process")] if has_sites else []),
    ]


def _program(name: str, *, module: str = "", inherits: Mapping[str, int] | None = None) -> Program:
    return Program(name=name, module=f"mainstay.boot.{module or name}", inherits=inherits or {})


@contextmanager
def _signals(
    ask_to_stop: Callable[[int, FrameType | None], None], selector: selectors.BaseSelector
) -> Iterator[None]:
    """Turn signals into news for the selector: a stop wish, or the end of a child."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    selector.register(ours, selectors.EVENT_READ, None)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    handlers = {
        number: signal.signal(number, ask_to_stop)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()
