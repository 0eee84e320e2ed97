"""Admission is asked on the spot where that is quick, in a thread where it is not, and afresh each time."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mainstay.access.actors import Actor
from mainstay.access.policy import GitAction
from mainstay.doors.githttp.doorkeeper import Doorkeeper
from mainstay.doors.githttp.target import parse_target
from mainstay.doors.githttp.visit import Visit
from mainstay.foundation.clock import ManualClock
from mainstay.product.accounts.identify import WrongCredentials
from mainstay.product.projects.admission import Admission, Credentials, GitGate, UserAndSecret
from mainstay.product.projects.locate import NoSuchProject
from mainstay.storage.database import WouldWait
from support.fake_gate import ADA as ADA_HERSELF
from support.fake_gate import EVE, FakeGate

FETCH = (b"/ada/engine.git/git-upload-pack", b"")
PUSH = (b"/ada/engine.git/git-receive-pack", b"")
ADA = b"Bearer ada-secret"


@dataclass
class WatchedGate(FakeGate):
    """Notes the thread of every question; `during` happens in each, `busy` makes haste impossible."""

    busy: bool = False
    during: Callable[[], None] = lambda: None
    asked_in: list[str] = field(default_factory=list)
    banned: list[Actor] = field(default_factory=list)

    def without_waiting(self, credentials: Credentials) -> AbstractContextManager[None]:
        if self.busy:
            raise WouldWait("somebody has a lock")
        return nullcontext()

    def enter(self, actor: Actor, path: str, action: GitAction, *, create: bool) -> Admission:
        self.asked_in.append(threading.current_thread().name.rpartition("_")[0] or "on the spot")
        self.during()
        if actor in self.banned:
            raise NoSuchProject(path)
        return super().enter(actor, path, action, create=create)


class Refs:
    """A service whose refs are called `now` on the spot and `then` in a thread."""

    def look(self, _repository_id: int) -> str:
        return "then"

    def look_at_once(self, _repository_id: int) -> str:
        return "now"


@dataclass
class Post:
    gate: WatchedGate = field(default_factory=WatchedGate)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.doorkeeper = Doorkeeper(gate=self.gate, service=cast("Any", Refs()), clock=self.clock, threads=1)

    def admit(self, target: tuple[bytes, bytes] = FETCH, who: bytes = ADA, **asked: Any) -> Any:
        visit = Visit(
            scope={"headers": [(b"authorization", who)], "client": ("192.0.2.1", 1)},
            headers={},
            request_id="r",
            answer=cast("Any", None),
            started_s=0.0,
        )
        wanted = {"create": False, "look": True, **asked}
        admitted = asyncio.run(self.doorkeeper.admit(visit, parse_target(*target), **wanted))
        return (visit.actor.name if visit.actor else "", *admitted)


@pytest.fixture
def post() -> Iterator[Post]:
    post = Post()
    yield post
    post.doorkeeper.close()


def test_who_needs_no_waiting_is_admitted_on_the_spot(post: Post) -> None:
    name, admission, seen = post.admit()
    assert (name, admission.repository_id, seen) == ("ada", 1, "now")
    assert post.gate.asked_in == ["on the spot"]


def test_what_would_wait_is_asked_again_in_a_thread(post: Post) -> None:
    post.gate.busy = True
    name, admission, seen = post.admit()
    assert (name, admission.repository_id, seen) == ("ada", 1, "then")
    assert post.gate.asked_in == ["git-gate"]


def test_what_turns_out_to_wait_is_asked_again_from_the_beginning(post: Post) -> None:
    def wait_at_first() -> None:
        if len(post.gate.asked_in) == 1:
            raise WouldWait("a write waits")

    post.gate.during = wait_at_first
    assert post.admit()[0] == "ada"
    assert post.gate.asked_in == ["on the spot", "git-gate"]
    assert len(post.gate.asked) == 2


def test_what_may_make_a_project_is_asked_in_a_thread(post: Post) -> None:
    post.admit(PUSH, create=True)
    post.admit(PUSH, create=False)
    assert post.gate.asked_in == ["git-gate", "on the spot"]


def test_nothing_is_remembered_of_an_earlier_admission(post: Post) -> None:
    post.admit()
    post.gate.banned.append(ADA_HERSELF)
    with pytest.raises(NoSuchProject):
        post.admit()


@pytest.mark.parametrize("busy", [False, True])
def test_a_refusal_is_the_same_in_both_places(post: Post, *, busy: bool) -> None:
    post.gate.busy = busy
    with pytest.raises(WrongCredentials):
        post.admit(who=b"Bearer wrong")
    with pytest.raises(NoSuchProject):
        post.admit(who=b"Bearer eve-secret")


def test_after_a_slow_answer_threads_ask_for_a_while(post: Post) -> None:
    post.gate.during = lambda: post.clock.advance(0.2)
    post.admit()
    post.gate.during = lambda: None
    post.admit()
    post.clock.advance(9.9)
    post.admit()
    post.clock.advance(0.2)
    post.admit()
    assert post.gate.asked_in == ["on the spot", "git-gate", "git-gate", "on the spot"]


def test_a_slow_refusal_counts_as_slow_too(post: Post) -> None:
    post.gate.banned.append(EVE)
    post.gate.during = lambda: post.clock.advance(0.2)
    with pytest.raises(NoSuchProject):
        post.admit(who=b"Bearer eve-secret")
    post.admit()
    assert post.gate.asked_in == ["on the spot", "git-gate"]


def test_without_being_asked_nobody_looks_for_refs(post: Post) -> None:
    assert post.admit(look=False)[2] is None


def test_passwords_are_never_checked_on_the_spot() -> None:
    gate = GitGate(cast("Any", None), clock=ManualClock(), create_on_push=cast("Any", None))
    with pytest.raises(WouldWait, match="password"):
        gate.without_waiting(UserAndSecret("ada", "correct horse"))
