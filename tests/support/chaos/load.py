"""Clients that push and read all the time, and write down what they asked and what they were told.

`RawClient` is light: it makes commits in memory and keeps its connection, so a few threads make hundreds of
operations a second on refs that all of them fight for. `GitClient` is git itself, over HTTP or SSH, on a
branch of its own, and clones now and then.
"""

import http.client
import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from support.chaos.history import ABSENT, Read, Recorder, Register, Verdict, Write
from support.chaos.tally import Tally
from support.raw_push import RawObject, RawPusher, blob, commit, tree

_PAUSE_S = 0.05
"""After a failure, so that a cluster that is down is not hammered."""
_GIT_S_MAX = 150.0
_STALE = (
    "expected ",
    "stale",
    "fetch first",
    "non-fast-forward",
    "already exists",
    "reference already",
    "does not match",
)
ATOMIC_REFS = 3


@dataclass(frozen=True, slots=True)
class Desk:
    """What all clients of one run share."""

    recorder: Recorder
    tally: Tally
    stop: Event
    now_s: Callable[[], float] = time.monotonic
    rest_s: float = 0.0
    """Of each client after each turn; for a run that has other tests beside it."""

    def rest(self) -> None:
        if self.rest_s:
            self.stop.wait(self.rest_s)


def fresh_commit(parent: str, message: str) -> tuple[str, list[RawObject]]:
    """A commit that nobody made before, and all objects it needs beside its parent."""
    content = blob(message.encode())
    top = tree({"file": content})
    made = commit(top, None if parent == ABSENT else parent, message)
    return made.oid, [made, top, content]


def verdict_of(report: Mapping[str, str] | None, ref: str) -> Verdict:
    """What a report says of one ref. Anything but a report with it leaves the outcome open."""
    reason = (report or {}).get(ref)
    if reason is None:
        return "info"
    if reason == "ok":
        return "ok"
    return "fail" if any(word in reason for word in _STALE) else "refused"


@dataclass
class RawClient:
    """One thread's worth of fights for `refs` of one repository."""

    name: str
    pusher: RawPusher
    repository: str
    refs: Sequence[str]
    desk: Desk
    chance: random.Random
    atomic_share: float = 0.1
    _count: int = 0
    _failed_before: dict[str, bool] = field(default_factory=dict)

    def run(self) -> None:
        while not self.desk.stop.is_set():
            values = self.look()
            if values is None:
                self.desk.stop.wait(_PAUSE_S)
            elif self.chance.random() < self.atomic_share:
                self.push_together()
            else:
                self.swap(self.chance.choice(self.refs), values)
            self.desk.rest()
        self.pusher.close()

    def look(self) -> dict[str, str] | None:
        """List the refs: one read of each. None when there was no answer."""
        call_s = self.desk.now_s()
        try:
            found = self.pusher.refs()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.pusher.close()
            self._fail("list", str(error) or type(error).__name__)
            return None
        self._succeed("list")
        listing = f"{self.name}/{call_s}"
        self.desk.recorder.add(
            *(
                Read(
                    register=Register(self.repository, ref),
                    value=found.get(ref, ABSENT),
                    call_s=call_s,
                    return_s=self.desk.now_s(),
                    client=self.name,
                    listing=listing,
                )
                for ref in self.refs
            )
        )
        return found

    def swap(self, ref: str, values: Mapping[str, str]) -> Verdict:
        """Push one new commit on top of what was seen."""
        old = values.get(ref, ABSENT)
        new, objects = fresh_commit(old, self._message())
        return self._push([(ref, old, new)], objects, atomic=False)[0]

    def push_together(self) -> None:
        """Create several refs at once, all or none; nobody touches them again."""
        message = self._message()
        updates, objects = [], []
        for number in range(ATOMIC_REFS):
            new, more = fresh_commit(ABSENT, f"{message} part {number}")
            updates.append((f"refs/heads/together/{self.name}-{self._count}/{number}", ABSENT, new))
            objects += more
        self._push(updates, objects, atomic=True)

    def _push(
        self, updates: list[tuple[str, str, str]], objects: list[RawObject], *, atomic: bool
    ) -> list[Verdict]:
        call_s = self.desk.now_s()
        report = self.pusher.push(updates, objects, atomic=atomic)
        return_s = self.desk.now_s()
        verdicts = [verdict_of(report, ref) for ref, _, _ in updates]
        for (ref, old, new), verdict in zip(updates, verdicts, strict=True):
            write = Write(
                register=Register(self.repository, ref),
                old=old,
                new=new,
                verdict=verdict,
                call_s=call_s,
                return_s=return_s,
                client=self.name,
                push=f"{self.name}/{self._count}",
                atomic=atomic,
            )
            self.desk.recorder.add(write)
        if all(verdict in ("ok", "fail") for verdict in verdicts):
            self._succeed("push")
        else:
            self._fail("push", str((report or {}).get(updates[0][0], "no report")))
        return verdicts

    def _message(self) -> str:
        self._count += 1
        return f"{self.name} {self._count} {self.chance.getrandbits(64):x}"

    def _succeed(self, kind: str) -> None:
        self._failed_before[kind] = False
        self.desk.tally.succeed(kind, self.desk.now_s())

    def _fail(self, kind: str, reason: str) -> None:
        self.desk.tally.fail(kind, reason, again=self._failed_before.get(kind, False))
        self._failed_before[kind] = True


@dataclass
class GitClient:
    """Real git on a branch of its own. `kind` is the transport, for the tally."""

    name: str
    kind: str
    url: str
    repository: str
    directory: Path
    environment: Mapping[str, str]
    desk: Desk
    clone_every: int = 5
    _value: str = ABSENT
    _failed_before: bool = False

    @property
    def ref(self) -> str:
        return f"refs/heads/git/{self.name}"

    def run(self) -> None:
        self._git("init", "--quiet", "--initial-branch=main", str(self.directory))
        turn = 0
        while not self.desk.stop.is_set():
            turn += 1
            if turn % self.clone_every == 0:
                self._clone(turn)
            elif not self._push(turn):
                self.desk.stop.wait(_PAUSE_S)
                self._learn()
            self.desk.rest()

    def _push(self, turn: int) -> bool:
        self._git(
            "commit", "--quiet", "--allow-empty", "--message", f"{self.name} {turn} {os.urandom(8).hex()}"
        )
        new = self._git("rev-parse", "HEAD").stdout.strip()
        call_s = self.desk.now_s()
        # The lease makes the old value that git sends the one that we believe in; a `+` would defeat it.
        expected = "" if self._value == ABSENT else self._value
        lease = f"--force-with-lease={self.ref}:{expected}"
        done = self._git("push", "--porcelain", lease, self.url, f"HEAD:{self.ref}")
        if "(stale info)" in done.stdout:
            return False  # never sent
        verdict = _verdict_of_git(done)
        self.desk.recorder.add(
            Write(
                register=Register(self.repository, self.ref),
                old=self._value,
                new=new,
                verdict=verdict,
                call_s=call_s,
                return_s=self.desk.now_s(),
                client=self.name,
            )
        )
        self._count("push", done)
        if verdict == "ok":
            self._value = new
        return verdict == "ok"

    def _learn(self) -> None:
        """Did an unknown push happen? The answer is a read like any other."""
        call_s = self.desk.now_s()
        done = self._git("ls-remote", self.url, self.ref)
        self._count("list", done)
        if done.returncode == 0:
            self._value = done.stdout.split()[0] if done.stdout else ABSENT
            self._saw(self._value, call_s)
            if self._value != ABSENT:
                self._git("reset", "--quiet", "--soft", self._value)

    def _clone(self, turn: int) -> None:
        target = self.directory / f".clone-{turn}"
        call_s = self.desk.now_s()
        done = self._git("clone", "--quiet", "--bare", self.url, str(target))
        self._count("clone", done)
        if done.returncode == 0:
            at = self._git("--git-dir", str(target), "rev-parse", "--verify", "--quiet", self.ref)
            self._saw(at.stdout.strip() or ABSENT, call_s)
            sound = self._git("--git-dir", str(target), "fsck", "--connectivity-only")
            assert sound.returncode == 0, f"a clone that is not whole: {sound.stderr}"
        subprocess.run(["rm", "-rf", str(target)], check=False)

    def _saw(self, value: str, call_s: float) -> None:
        register = Register(self.repository, self.ref)
        self.desk.recorder.add(
            Read(register=register, value=value, call_s=call_s, return_s=self.desk.now_s(), client=self.name)
        )

    def _count(self, what: str, done: "subprocess.CompletedProcess[str]") -> None:
        kind = f"{self.kind} {what}"
        if done.returncode == 0:
            self.desk.tally.succeed(kind, self.desk.now_s())
        else:
            reason = done.stderr.strip().splitlines()
            self.desk.tally.fail(kind, reason[-1] if reason else "no reason", again=self._failed_before)
        self._failed_before = done.returncode != 0

    def _git(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        where = self.directory if self.directory.exists() else self.directory.parent
        return subprocess.run(
            ["git", *arguments],
            cwd=where,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=_GIT_S_MAX,
            check=False,
        )


def _verdict_of_git(done: "subprocess.CompletedProcess[str]") -> Verdict:
    if done.returncode == 0:
        return "ok"
    if "[remote rejected]" not in done.stdout:
        return "info"
    return "fail" if any(word in done.stdout for word in _STALE) else "refused"


class Load:
    """Clients in threads. A client that crashes is a failure of the run, said at `end`."""

    def __init__(self, clients: Sequence[RawClient | GitClient], desk: Desk) -> None:
        self._desk = desk
        self._crashes: list[str] = []
        self._threads = [
            Thread(target=self._run, args=(each,), name=each.name, daemon=True) for each in clients
        ]

    def begin(self) -> None:
        for each in self._threads:
            each.start()

    def end(self, *, within_s: float = 180.0) -> None:
        self._desk.stop.set()
        until_s = time.monotonic() + within_s
        for each in self._threads:
            each.join(max(0.0, until_s - time.monotonic()))
        stuck = [each.name for each in self._threads if each.is_alive()]
        assert not stuck, f"clients do not come back: {stuck}"
        assert not self._crashes, self._crashes

    def _run(self, client: RawClient | GitClient) -> None:
        try:
            client.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run must say it
            self._crashes.append(f"{client.name}: {type(error).__name__}: {error}")
