"""The cluster that a visitor may break: `mainstay cluster demo`.

Starts the stack, tells what changes, does what other terminals ask for, and leaves nothing behind: not after
Ctrl-C or SIGTERM, not after an earlier demo was killed.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Invalid, MainstayError
from mainstay.provision.local import leftovers
from mainstay.provision.local.control import Answer, Control
from mainstay.provision.local.leftovers import Notes, write_notes
from mainstay.provision.local.member import Member
from mainstay.provision.local.patroni import PatroniDatabase
from mainstay.provision.local.stack import LocalStack

Phase = Literal["starting", "ready", "stopping"]

_TICK_S = 0.5
_EVERYTHING = ("", "all")


_DEEDS: Mapping[str, tuple[Callable[[Member], None], str]] = {
    "kill": (Member.kill, "{name} was killed; `start {name}` brings it back"),
    "start": (Member.heal, "{name} is back"),
    "freeze": (
        Member.freeze,
        "{name} is frozen: it takes connections and answers nothing until `thaw {name}`",
    ),
    "thaw": (Member.thaw, "{name} goes on"),
}


class NoSuchWish(Invalid):
    """The demo does not know what that means."""


@dataclass(frozen=True, slots=True)
class Line:
    """One member, as a table shows it."""

    name: str
    what: str
    state: str
    role: str
    address: str


@dataclass(frozen=True, slots=True)
class Picture:
    """How it is now."""

    phase: Phase
    http: str
    ssh: str
    root_password: str
    directory: str
    members: tuple[Line, ...]


class Demo:
    """One run. `tell` hears what happened, in sentences."""

    def __init__(
        self, directory: Path, make_stack: Callable[[Path], LocalStack], *, tell: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._make_stack = make_stack
        self._tell = tell
        self._stop = threading.Event()
        self._phase: Phase = "starting"
        self._control = Control(self.obey)
        self._stack: LocalStack | None = None
        self._noted: Notes | None = None
        self._known: dict[str, Line] = {}

    def ask_to_stop(self) -> None:
        self._stop.set()

    def run(self, *, on_ready: Callable[[Picture], None], on_tick: Callable[[Picture], None]) -> None:
        """From the start to the clean end. `on_tick` is called twice a second with how it is."""
        with leftovers.held(self._directory):
            self._clean_earlier_run()
            with self._controlled(), self._running() as stack:
                if self._start(stack):
                    on_ready(self.picture())
                    self._watch(on_tick)
                self._end(stack)
            leftovers.clean(self._directory)
            leftovers.remove(self._directory)

    def picture(self) -> Picture:
        """How it is now; asks every member, which takes a moment."""
        stack = self._stack
        if stack is None:
            return Picture(self._phase, "", "", "", str(self._directory), ())
        roles = stack.database.roles() if isinstance(stack.database, PatroniDatabase) else {}
        return Picture(
            phase=self._phase,
            http=stack.balancer.url,
            ssh=f"ssh://git@{stack.balancer.ssh_address}",
            root_password=stack.root_password() if self._phase == "ready" else "",
            directory=str(self._directory),
            members=tuple(_line(member, roles) for member in stack.members()),
        )

    def obey(self, do: str, name: str) -> Answer:
        """What another terminal asks for. Raises a known error with a sentence for it."""
        if do == "status":
            return asdict(self.picture())
        if do == "stop":
            self.ask_to_stop()
            return {"said": "the demo stops"}
        if self._stack is None or self._phase != "ready":
            raise NoSuchWish("the demo is not ready yet")
        said = self._do(self._stack, do, name)
        self._tell(said)
        return {"said": said}

    def _do(self, stack: LocalStack, do: str, name: str) -> str:
        if do == "start" and name in _EVERYTHING:
            return _start_all(stack)
        if do not in _DEEDS:
            raise NoSuchWish(f"{do!r} is none of {', '.join(_DEEDS)}, status, stop")
        if name == "database":
            return _on_the_database(stack, do)
        member = stack.member(name)
        deed, sentence = _DEEDS[do]
        deed(member)
        if do == "kill" and member is stack.balancer:
            sentence = "lb was killed; it is started again, as systemd would"
        return sentence.format(name=name)

    def _clean_earlier_run(self) -> None:
        ended = leftovers.clean(self._directory)
        if ended:
            self._tell(f"an earlier demo had left {ended} processes; they were ended")

    @contextmanager
    def _controlled(self) -> Iterator[None]:
        self._control.start()
        try:
            yield
        finally:
            self._control.close()

    @contextmanager
    def _running(self) -> Iterator[LocalStack]:
        """Whatever happens inside, everything that was started is ended."""
        stack = self._stack = self._make_stack(self._directory)
        try:
            self._note(stack)
            yield stack
        finally:
            self._phase = "stopping"
            stack.end()

    def _start(self, stack: LocalStack) -> bool:
        """Whether it came up before it was told to stop. Raises what made it impossible."""
        failures: list[MainstayError] = []

        def start() -> None:
            try:
                stack.start()
            except MainstayError as error:
                failures.append(error)

        starter = threading.Thread(target=start, name="starter")
        starter.start()
        while starter.is_alive() and not self._stop.is_set():
            self._note(stack)
            starter.join(_TICK_S)
        if self._stop.is_set():
            stack.end()
            starter.join()
            return False
        if failures:
            raise failures[0]
        self._note(stack)
        self._phase = "ready"
        return True

    def _watch(self, on_tick: Callable[[Picture], None]) -> None:
        while not self._stop.wait(_TICK_S):
            self._bring_back_the_balancer()
            picture = self.picture()
            self._tell_changes(picture)
            on_tick(picture)
            if self._stack is not None:
                self._note(self._stack)

    def _bring_back_the_balancer(self) -> None:
        """As systemd would. There are two of it where it matters; here is one, and all go through it."""
        balancer = self._stack.balancer if self._stack else None
        if balancer is not None and not balancer.is_running():
            balancer.start()
            self._tell("lb was started again")

    def _end(self, stack: LocalStack) -> None:
        self._phase = "stopping"
        started_s = SYSTEM.monotonic_s()
        self._tell("stopping: what is under way is finished first; once more stops at once")
        self._stop.clear()
        stopper = threading.Thread(target=stack.stop, name="stopper")
        stopper.start()
        while stopper.is_alive():
            if self._stop.wait(_TICK_S):
                stack.end()
                self._stop.clear()
            stopper.join(0)
        self._tell(f"stopped after {SYSTEM.monotonic_s() - started_s:.0f} s; nothing is left")

    def _note(self, stack: LocalStack) -> None:
        """Keep what the next demo needs, if this one is killed."""
        notes = Notes(
            control_port=self._control.port,
            token=self._control.token,
            processes=tuple(identity for member in stack.members() for identity in member.identities()),
            directories=tuple(map(str, stack.foreign_directories())),
        )
        if notes != self._noted:
            write_notes(self._directory, notes)
            self._noted = notes

    def _tell_changes(self, picture: Picture) -> None:
        fresh = {line.name: line for line in picture.members}
        for name, line in fresh.items():
            before = self._known.get(name)
            if before is None:
                continue
            if before.state != line.state:
                self._tell(f"{name} is {line.state}")
            if line.role == "primary" and before.role != line.role:
                self._tell(f"{name} is the primary of the database")
        self._known = fresh


def _line(member: Member, roles: Mapping[str, str]) -> Line:
    role = roles.get(member.name, "").replace("_", " ")
    shown = "primary" if role in {"leader", "master"} else role
    return Line(member.name, member.what, member.state(), shown, member.address)


def _start_all(stack: LocalStack) -> str:
    for member in stack.members():
        member.heal()
    return "everything runs"


def _on_the_database(stack: LocalStack, do: str) -> str:
    """`database` is whichever server is the primary now."""
    if do == "kill":
        killed = stack.database.kill_primary()
        return (
            f"the primary's PostgreSQL ({killed.name}) was killed; a standby takes over, it comes back itself"
        )
    if do in ("start", "thaw"):
        for member in stack.database.parts:
            member.heal()
        return "the database runs"
    if do == "freeze":
        frozen = stack.database.wait_for_primary()
        frozen.freeze()
        return f"the primary ({frozen.name}) is frozen; a standby takes over within 25 s"
    raise NoSuchWish(f"the database cannot {do}")
