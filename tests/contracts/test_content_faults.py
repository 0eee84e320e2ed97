"""Pages and the API while git is killed, nodes go away, and those who listen do: a refusal, never a lie."""

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from mainstay.foundation.errors import Conflict, Invalid, NotFound, OutcomeUnknown, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import ZERO_OID, Oid
from mainstay.repository import composing
from mainstay.repository.browse import Browser
from mainstay.repository.content import BrokenOff, Hear, LocalContent, Refused
from mainstay.repository.questions import Addition, Objects, Question
from mainstay.repository.write import RefMoved, Writer, branch_ref, tag_ref
from mainstay.storage.ledger import RefChange
from support.bench import ADA, RULES, Bench, opened_bench
from support.databases import migrated_sqlite
from support.deadly_git import MOMENTS, deadly_git
from support.rpc import Cluster

HERE, ELSEWHERE = "in this process", "on another node"
LARGE = random.Random(17).randbytes(5 << 20)


@pytest.fixture(params=[HERE, ELSEWHERE])
def bench(request: pytest.FixtureRequest, sqlite_template: Path, tmp_path: Path) -> Iterator[Bench]:
    with opened(sqlite_template, tmp_path, elsewhere=request.param == ELSEWHERE) as bench:
        yield bench


@pytest.fixture
def remote(sqlite_template: Path, tmp_path: Path) -> Iterator[Bench]:
    with opened(sqlite_template, tmp_path, elsewhere=True) as bench:
        yield bench


@contextmanager
def opened(template: Path, directory: Path, *, elsewhere: bool) -> Iterator[Bench]:
    database = migrated_sqlite(template, ":memory:")
    with opened_bench(database, directory, elsewhere=elsewhere) as bench:
        yield bench
    database.close()


# Git that is killed

ASKED: dict[str, tuple[str, Callable[[Bench], Any]]] = {
    "commits": ("cat-file --batch", lambda bench: bench.browser.read_commits(bench.id, [bench.first])),
    "a tag as revision": ("cat-file --batch-check", lambda bench: bench.browser.resolve(bench.id, "light")),
    "digits": ("cat-file --batch-check", lambda bench: bench.browser.resolve(bench.id, bench.first[:12])),
    "is it visible": ("rev-list --max-count=1", lambda bench: bench.browser.resolve(bench.id, bench.first)),
    "history": ("rev-list", lambda bench: bench.browser.history(bench.id, bench.first, skip=0, limit=5)),
    "its commits": (
        "cat-file --batch",
        lambda bench: bench.browser.history(bench.id, bench.first, skip=0, limit=5),
    ),
    "ahead": (
        "rev-list",
        lambda bench: bench.browser.not_merged(bench.id, [second(bench)], bench.first),
    ),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(
    ("bench", "moment"),
    # What another node makes of it depends on whether anything was said, and on nothing else.
    [*((HERE, moment) for moment in MOMENTS), (ELSEWHERE, "at once"), (ELSEWHERE, "when it is done")],
    indirect=["bench"],
)
def test_no_answer_is_never_taken_for_one(bench: Bench, tmp_path: Path, asked: str, moment: str) -> None:
    victim, ask = ASKED[asked]
    prepare(bench)
    whole = ask(bench)
    assert whole
    with (
        deadly_git(tmp_path / "git", victim, moment),
        pytest.raises(Unavailable, match="try again"),
    ):
        ask(bench)
    with deadly_git(tmp_path / "once", victim, moment, once=True):
        assert ask(bench) == whole
    assert ask(bench) == whole


@pytest.mark.parametrize("moment", MOMENTS)
def test_objects_that_are_not_checked_change_nothing(bench: Bench, tmp_path: Path, moment: str) -> None:
    version = bench.ledger.repository(bench.id).version

    def tag() -> Oid:
        return bench.writer.create_tag(
            bench.id, tag_ref("v1"), bench.first, rules=RULES, message="One.", tagger=ADA
        )

    with (
        deadly_git(tmp_path / "git", "index-pack", moment),
        pytest.raises(Unavailable, match="try again; nothing changed"),
    ):
        tag()
    assert bench.ledger.repository(bench.id).version == version
    assert list(bench.scratch.iterdir()) == []
    made = tag()
    assert bench.browser.read_tags(bench.id, [made])[made].message == "One.\n"


def prepare(bench: Bench) -> None:
    """A commit ahead of main on a branch, and a tag without an object."""
    bench.writer.create_tag(bench.id, tag_ref("light"), bench.first, rules=RULES)
    tree = bench.browser.read_commits(bench.id, [bench.first])[bench.first].tree
    commit = composing.commit(tree=tree, parents=[bench.first], author=ADA, message="Second.")
    bench.writer._commit_objects(
        bench.id, [commit], RefChange(branch_ref("ahead"), ZERO_OID, commit.oid), rules=RULES
    )
    change = RefChange(branch_ref("main"), bench.first, commit.oid)
    bench.writer._commit(bench.id, change, rules=RULES)
    bench.writer.delete_ref(bench.id, tag_ref("light"), rules=RULES)
    bench.writer.create_tag(bench.id, tag_ref("light"), commit.oid, rules=RULES)


def second(bench: Bench) -> Oid:
    ref = bench.browser.branch(bench.id, "ahead")
    assert ref is not None
    return ref.oid


# Answers of any size


def with_a_large_blob(bench: Bench) -> Oid:
    blob = composing.blob(LARGE)
    tree = composing.tree_of_files({"large": blob.oid})
    commit = composing.commit(tree=tree.oid, parents=[], author=ADA, message="Large.")
    change = RefChange(branch_ref("large"), ZERO_OID, commit.oid)
    bench.writer._commit_objects(bench.id, [blob, tree, commit], change, rules=RULES)
    return blob.oid


def test_an_answer_comes_in_pieces_and_in_the_thread_that_asked(bench: Bench) -> None:
    blob = with_a_large_blob(bench)
    digest, sizes, threads = hashlib.sha256(), [], set()

    def hear(piece: bytes) -> None:
        digest.update(piece)
        sizes.append(len(piece))
        threads.add(threading.current_thread())

    bench.content.ask(bench.id, Objects(oids=(blob,)), hear=hear)
    expected = f"{blob} blob {len(LARGE)}\n".encode() + LARGE + b"\n"
    assert digest.digest() == hashlib.sha256(expected).digest()
    assert max(sizes) <= 1 << 20
    assert threads == {threading.current_thread()}


def test_who_listens_no_more_ends_the_work(bench: Bench) -> None:
    blob = with_a_large_blob(bench)

    class Enough(Exception):
        pass

    def hear(_piece: bytes) -> None:
        raise Enough

    for _ in range(20):  # more than there are places for one repository, or threads
        with pytest.raises(Enough):
            bench.content.ask(bench.id, Objects(oids=(blob,)), hear=hear)
    assert bench.browser.resolve(bench.id, "main") == bench.first


# What is refused there is refused here in the same words


def test_errors_keep_their_family_and_sentence(bench: Bench) -> None:
    nowhere = 1 << 40
    with pytest.raises(NotFound):
        bench.content.ask(nowhere, Objects(oids=(bench.first,)), hear=lambda _: None)
    with pytest.raises(NotFound):
        bench.content.add(addition(nowhere, bench.first), BytesIO(b"PACK"))
    with pytest.raises(Invalid, match="git does not take these objects"):
        bench.content.add(addition(bench.id, bench.first), BytesIO(b"PACK and nothing of the kind"))
    taken = RefChange(branch_ref("main"), ZERO_OID, bench.first)
    with pytest.raises(RefMoved, match="already"):
        bench.writer._commit_objects(bench.id, [composing.blob(b"x")], taken, rules=RULES)
    assert issubclass(RefMoved, Conflict)


def addition(repository_id: int, new: Oid) -> Addition:
    change = RefChange(branch_ref("added"), ZERO_OID, new)
    return Addition(push_id=new_ulid(), repository_id=repository_id, change=change, actor="user:7")


# Nodes that go away


class Dying:
    """A content that is real until the deed says otherwise."""

    def __init__(self, real: LocalContent, deed: Callable[[], None], *, after_bytes: int = 0) -> None:
        self._real = real
        self._deed = deed
        self._after_bytes = after_bytes
        self.calls = 0

    def ask(self, repository_id: int, question: Question, *, hear: Hear) -> None:
        self.calls += 1
        left = self._after_bytes

        def hear_and_die(piece: bytes) -> None:
            nonlocal left
            left -= len(piece)
            hear(piece)
            if left < 0:
                self._deed()

        if not self._after_bytes:
            self._deed()
        self._real.ask(repository_id, question, hear=hear_and_die if self._after_bytes else hear)

    def add(self, addition: Addition, pack: BinaryIO) -> Refused:
        self.calls += 1
        if not self._after_bytes:
            self._deed()
            return {}
        refused = self._real.add(addition, pack)
        self._deed()
        return refused


def only(cluster: Cluster, bench: Bench, content: Dying | LocalContent) -> Any:
    """One node with this content in the place of all others."""
    cluster.nodes.clear()
    return cluster.start(service=None, content=content)


def cut(nodes: list[Any]) -> None:
    for each in nodes:
        each.cut_connections()


def dying(bench: Bench, *, after_bytes: int) -> tuple[Dying, Writer, Browser]:
    """A single node that cuts its connections in the middle of whatever it does."""
    cluster = bench.cluster
    assert cluster is not None
    running: list[Any] = []
    content = Dying(bench.local, lambda: cut(running), after_bytes=after_bytes)
    running.append(only(cluster, bench, content))
    face = cluster.content(bench.ledger)
    pushes = bench.writer._pushes
    browser = Browser(ledger=bench.ledger, content=face)
    return content, Writer(ledger=bench.ledger, content=face, pushes=pushes), browser


@pytest.mark.parametrize("after_bytes", [0, 1 << 20])
def test_a_question_goes_to_another_node(remote: Bench, after_bytes: int) -> None:
    """Also in the middle of its answer: what came of the first is forgotten."""
    bench, cluster = remote, remote.cluster
    assert cluster is not None
    blob = with_a_large_blob(bench)
    content, _, browser = dying(bench, after_bytes=after_bytes)
    with pytest.raises(Unavailable, match="try again"):
        browser._objects(bench.id, [blob])
    assert content.calls >= 1
    cluster.start(service=None, content=bench.local)
    fresh = Browser(ledger=bench.ledger, content=cluster.content(bench.ledger))
    for _ in range(4):
        assert fresh._objects(bench.id, [blob]) == [(blob, "blob", LARGE)]


def test_an_answer_that_broke_off_says_so(remote: Bench) -> None:
    blob = with_a_large_blob(remote)
    dying(remote, after_bytes=1 << 20)
    assert remote.cluster is not None
    heard = bytearray()
    with pytest.raises(BrokenOff):
        remote.cluster.content(remote.ledger).ask(remote.id, Objects(oids=(blob,)), hear=heard.extend)
    assert 0 < len(heard) < len(LARGE)


def test_a_change_whose_node_goes_away_is_looked_up(remote: Bench) -> None:
    content, writer, _ = dying(remote, after_bytes=1)
    made = writer.create_tag(remote.id, tag_ref("v1"), remote.first, rules=RULES, message="One.", tagger=ADA)
    ref = remote.browser.tag(remote.id, "v1")
    assert ref is not None
    assert ref.oid == made
    assert content.calls == 1


def test_a_change_of_which_nobody_knows_is_unknown_and_made_once(remote: Bench) -> None:
    """Two nodes of which each goes away: only one is asked."""
    content, writer, _ = dying(remote, after_bytes=0)
    assert remote.cluster is not None
    also_dying: list[Any] = []
    other = Dying(remote.local, lambda: cut(also_dying))
    also_dying.append(remote.cluster.start(service=None, content=other))

    def tag() -> Oid:
        return writer.create_tag(remote.id, tag_ref("v1"), remote.first, rules=RULES, message="m", tagger=ADA)

    with pytest.raises(OutcomeUnknown):
        tag()
    assert content.calls + other.calls == 1
    assert remote.browser.tag(remote.id, "v1") is None
    only(remote.cluster, remote, remote.local)
    fresh = remote.cluster.content(remote.ledger)
    again = Writer(ledger=remote.ledger, content=fresh, pushes=remote.writer._pushes)
    assert again.create_tag(remote.id, tag_ref("v1"), remote.first, rules=RULES, message="m", tagger=ADA)


def test_a_bug_over_there_leaves_a_change_unknown(remote: Bench) -> None:
    def trip() -> None:
        raise ZeroDivisionError("secret")

    assert remote.cluster is not None
    content = Dying(remote.local, trip)
    only(remote.cluster, remote, content)
    face = remote.cluster.content(remote.ledger)
    with pytest.raises(OutcomeUnknown) as told:
        face.add(addition(remote.id, remote.first), BytesIO(b"PACK"))
    assert "secret" not in str(told.value)
    with pytest.raises(Unavailable, match="something went wrong on the node"):
        face.ask(remote.id, Objects(oids=(remote.first,)), hear=lambda _: None)
