"""Two nodes on one PostgreSQL and one object store, to ask of one how long the fate of the other costs it.

with two_nodes(worlds, "postgresql-directory", "http") as nodes:
    with nodes.pushing(attempt, path) as push:      a push through a, in a thread
    nodes.use(path)                                a push to the same ref and a clone through b, timed
"""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.chaos.load import fresh_commit
from support.crash.history import MAIN, Attempt
from support.crash.nursery import Child
from support.crash.world import Transport, World, repository_id
from support.crash.worlds import Worlds
from support.git_client import GitClient
from support.raw_push import ZERO

_POLL_S = 0.01
_HELD_S_MAX = 60.0

Report = dict[str, str] | None


@dataclass(frozen=True)
class Waited:
    """What the living node needed, in seconds."""

    push_s: float
    clone_s: float

    @property
    def longest_s(self) -> float:
        return max(self.push_s, self.clone_s)


@dataclass
class Neighbours:
    a: World
    b: World
    git: GitClient
    _clones: int = 0
    waited: dict[str, Waited] = field(default_factory=dict)
    """By what had happened to the other."""

    @contextmanager
    def pushing(self, attempt: Attempt, path: str) -> Iterator["Future[Report]"]:
        """A push through a; ended by killing a at the latest."""
        pusher = self.a.pusher(path)
        with ThreadPoolExecutor(1) as beside:
            push = beside.submit(pusher.push, attempt.updates, attempt.objects)
            try:
                yield push
            finally:
                if not push.done():
                    self.a.kill()
                push.exception(_HELD_S_MAX)
                pusher.close()

    def values_of_main(self, path: str) -> set[str]:
        """All that main ever was."""
        with self.b.opened() as truth:
            number = repository_id(truth, path)
            assert number is not None
            changes = truth.ledger.changes(number, after=0)
        return {ref.new for change in changes for ref in change.refs if ref.name.decode() == MAIN}

    def use(self, path: str, what: str) -> Waited:
        """Push one commit to main through b and clone it, once each: neither may fail. Noted as `what`."""
        pusher = self.b.pusher(path)
        began_s = time.monotonic()
        try:
            old = pusher.refs().get(MAIN, ZERO)
            new, objects = fresh_commit(old, f"after {what}")
            report = pusher.push([(MAIN, old, new)], objects)
        finally:
            pusher.close()
        pushed_s = time.monotonic()
        assert report == {MAIN: "ok"}, f"{what}: {report}\n{self.b.nursery.log_end()}"
        assert self._cloned(path) == new
        self.waited[what] = Waited(pushed_s - began_s, time.monotonic() - pushed_s)
        return self.waited[what]

    def _cloned(self, path: str) -> str:
        """Where main is in a clone of everything through b."""
        self._clones += 1
        target = self.git.home / f"clone-{self._clones}"
        self.git("clone", "--quiet", "--mirror", self.b.url(path), target)
        found = self.git("rev-parse", MAIN, cwd=target)
        shutil.rmtree(target)
        return found


def is_held(child: Child, push: "Future[Report]") -> bool:
    """Wait until the process is at its gate (or dead), or the push has ended without coming by."""
    until_s = time.monotonic() + _HELD_S_MAX
    while not child.has_spoken(within_s=_POLL_S):
        if push.done():
            return child.has_spoken(within_s=_POLL_S)
        assert time.monotonic() < until_s, "neither at the gate nor done"
    return True


@contextmanager
def two_nodes(worlds: Worlds, storage: str, transport: Transport, directory: Path) -> Iterator[Neighbours]:
    a, b = worlds.make_two(storage, transport)
    b.start()
    try:
        yield Neighbours(a, b, GitClient(directory / "home", a.key))
    finally:
        a.kill()
        b.kill()
