"""Looking into and writing to repositories without a Git client, with real git inside: what every
`ContentFace` does, in this process on every database, and on another node over TLS.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mainstay.access.policy import HIDDEN_PREFIXES, Deny, ProtectedRef, PushRules
from mainstay.access.roles import Role
from mainstay.foundation.ids import new_ulid
from mainstay.git.native.run import run
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.repository.browse import OBJECTS_MAX, Signature, TooLargeToShow
from mainstay.repository.write import (
    BadRefName,
    HeadBranchStays,
    NoSuchRef,
    RefMoved,
    RefRefused,
    branch_ref,
    decide_deletion,
    tag_ref,
)
from mainstay.storage.database import Database
from mainstay.storage.database.postgresql import PostgresqlDatabase
from mainstay.storage.ledger import Push, RefChange
from support.bench import ADA, MAIN, RULES, USER, Bench, opened_bench
from support.databases import migrated_sqlite

PLACES = ("sqlite-file", "sqlite-memory", "postgresql", "on another node")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Here on every database; elsewhere on one of them, because only the way there is another."""
    if "bench" in metafunc.fixturenames:
        metafunc.parametrize("bench", PLACES, indirect=True)


def database_for(request: pytest.FixtureRequest, directory: Path) -> Database:
    if request.param == "postgresql":
        return PostgresqlDatabase(request.getfixturevalue("postgres_url"))
    where = directory / "mainstay.db" if request.param == "sqlite-file" else ":memory:"
    return migrated_sqlite(request.getfixturevalue("sqlite_template"), where)


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with (
        closing(database_for(request, tmp_path)) as database,
        opened_bench(database, tmp_path, elsewhere=request.param == "on another node") as bench,
    ):
        yield bench


def test_the_first_commit_is_sound_and_logged_like_a_push(bench: Bench) -> None:
    with bench.copies.pinned(bench.id) as copy:
        run(copy.place, ["fsck", "--full", "--strict"])
        shown = run(copy.place, ["cat-file", "-p", bench.first]).stdout.decode()
    assert "author Ada <ada@example.org> 1700000000 +0100" in shown
    (change,) = [each for each in bench.ledger.changes(bench.id, after=0) if each.kind == "push"]
    assert (change.actor, change.details["transport"]) == ("user:7", "api")
    assert bench.browser.default_branch(bench.id) == MAIN
    assert list(bench.scratch.iterdir()) == []


def test_commits_are_read_many_at_once_and_others_left_out(bench: Bench) -> None:
    tree = bench.browser.read_commits(bench.id, [bench.first])[bench.first].tree
    found = bench.browser.read_commits(bench.id, [bench.first, tree, Oid("1" * 40), ZERO_OID, bench.first])
    assert [(each.oid, each.message, each.author) for each in found.values()] == [
        (bench.first, "Start.\n", ADA)
    ]
    with pytest.raises(TooLargeToShow):
        bench.browser.read_commits(bench.id, [Oid(f"{number:040x}") for number in range(1, OBJECTS_MAX + 2)])


def test_a_tag_with_a_message_is_an_object_and_one_without_is_not(bench: Bench) -> None:
    light = bench.writer.create_tag(bench.id, tag_ref("v1"), bench.first, rules=RULES)
    made = bench.writer.create_tag(
        bench.id, tag_ref("v2"), bench.first, rules=RULES, message="Zwei ü", tagger=ADA
    )
    assert light == bench.first
    tag = bench.browser.read_tags(bench.id, [made, bench.first])[made]
    assert (tag.name, tag.target, tag.message, tag.tagger) == ("v2", bench.first, "Zwei ü\n", ADA)
    ref = bench.browser.tag(bench.id, "v2")
    assert ref is not None
    assert (ref.oid, ref.peeled) == (made, bench.first)
    with bench.copies.pinned(bench.id) as copy:
        run(copy.place, ["fsck", "--full", "--strict"])
    with pytest.raises(RefMoved, match="already"):
        bench.writer.create_tag(bench.id, tag_ref("v1"), bench.first, rules=RULES)


@pytest.mark.parametrize(
    "revision", ["main", "refs/heads/main", "HEAD", "v2", "refs/tags/v2", "{first}", "{first:.7}", "{FIRST}"]
)
def test_a_revision_is_a_branch_a_tag_a_ref_or_a_commit(bench: Bench, revision: str) -> None:
    bench.writer.create_tag(bench.id, tag_ref("v2"), bench.first, rules=RULES, message="m", tagger=ADA)
    asked = revision.format(first=bench.first, FIRST=bench.first.upper())
    assert bench.browser.resolve(bench.id, asked) == bench.first


@pytest.mark.parametrize(
    "revision",
    [
        "",
        "nope",
        "--all",
        "HEAD~1",
        "main^{tree}",
        "main:README.md",
        "1234567",
        "refs/keep-around/x",
        "\udcff",
        "0" * 40,
    ],
)
def test_anything_else_means_nothing(bench: Bench, revision: str) -> None:
    assert bench.browser.resolve(bench.id, revision) is None


def test_a_branch_is_found_before_a_tag_of_its_name(bench: Bench) -> None:
    second = commit_on(bench, bench.first)
    bench.writer.create_tag(bench.id, tag_ref("main"), second, rules=RULES)
    assert bench.browser.resolve(bench.id, "main") == bench.first
    assert bench.browser.resolve(bench.id, "refs/tags/main") == second


def test_a_tag_of_a_tree_is_shown_and_is_no_revision(bench: Bench) -> None:
    tree = bench.browser.read_commits(bench.id, [bench.first])[bench.first].tree
    bench.writer.create_tag(bench.id, tag_ref("tree"), tree, rules=RULES)
    assert [ref.oid for ref in bench.browser.tags(bench.id)] == [tree]
    assert bench.browser.resolve(bench.id, "tree") is None


def test_history_and_what_is_merged(bench: Bench) -> None:
    second = commit_on(bench, bench.first)
    bench.writer.create_branch(bench.id, branch_ref("ahead"), second, rules=RULES)
    history = bench.browser.history(bench.id, second, skip=0, limit=10)
    assert [each.oid for each in history] == [second, bench.first]
    assert [each.oid for each in bench.browser.history(bench.id, second, skip=1, limit=1)] == [bench.first]
    assert bench.browser.not_merged(bench.id, [bench.first, second], bench.first) == {second}
    assert bench.browser.is_ancestor(bench.id, bench.first, second)
    assert not bench.browser.is_ancestor(bench.id, second, bench.first)


def test_branches_come_and_go_by_the_rules(bench: Bench) -> None:
    topic = branch_ref("topic/x")
    bench.writer.create_branch(bench.id, topic, bench.first, rules=RULES)
    with pytest.raises(RefMoved, match="already"):
        bench.writer.create_branch(bench.id, topic, bench.first, rules=RULES)
    with pytest.raises(RefMoved, match="topic"):
        bench.writer.create_branch(bench.id, branch_ref("topic"), bench.first, rules=RULES)
    guest = PushRules(actor=USER, role=Role.GUEST)
    with pytest.raises(RefRefused):
        bench.writer.create_branch(bench.id, branch_ref("guest"), bench.first, rules=guest)
    with pytest.raises(HeadBranchStays):
        bench.writer.delete_ref(bench.id, MAIN, rules=RULES)
    bench.writer.delete_ref(bench.id, topic, rules=RULES)
    with pytest.raises(NoSuchRef):
        bench.writer.delete_ref(bench.id, topic, rules=RULES)
    assert [ref.name for ref in bench.browser.branches(bench.id)] == [MAIN]


def test_only_maintainers_delete_what_is_protected() -> None:
    rule = ProtectedRef("release/*", Role.DEVELOPER)
    name = branch_ref("release/1")
    developer = PushRules(actor=USER, role=Role.DEVELOPER, branches=[rule])
    maintainer = PushRules(actor=USER, role=Role.MAINTAINER, branches=[rule])
    assert isinstance(decide_deletion(name, developer), Deny)
    assert not isinstance(decide_deletion(name, maintainer), Deny)
    assert isinstance(decide_deletion(RefName(b"refs/mainstay/x"), maintainer), Deny)


@pytest.mark.parametrize(
    "name",
    ["", "-x", "a..b", "a b", "a~", "x.lock", ".x", "a//b", "a\x00", "@{", "a\\b", "é" * 200, "a/" * 3000],
)
def test_names_that_git_would_refuse_are_refused(name: str) -> None:
    with pytest.raises(BadRefName):
        branch_ref(name)
    with pytest.raises(BadRefName):
        tag_ref(name)


def commit_on(bench: Bench, parent: Oid) -> Oid:
    """A commit on top of `parent`, brought in by the writer's own road on a branch of another name."""
    from mainstay.repository import composing

    tree = bench.browser.read_commits(bench.id, [parent])[parent].tree
    later = Signature("Ada", "ada@example.org", 1_700_000_100)
    commit = composing.commit(tree=tree, parents=[parent], author=later, message="Second.")
    change = RefChange(branch_ref("side"), ZERO_OID, commit.oid)
    bench.writer._commit_objects(bench.id, [commit], change, rules=RULES)
    return commit.oid


def test_a_commit_that_a_force_push_removed_is_shown_no_more(bench: Bench) -> None:
    secret = commit_on(bench, bench.first)
    assert bench.browser.resolve(bench.id, secret) == secret
    move(bench, RefChange(branch_ref("side"), secret, bench.first))
    assert bench.browser.resolve(bench.id, secret) is None
    assert bench.browser.resolve(bench.id, secret[:10]) is None
    assert bench.browser.resolve(bench.id, bench.first) == bench.first
    with bench.copies.pinned(bench.id) as copy:
        run(copy.place, ["cat-file", "-e", secret])


@pytest.mark.parametrize("hidden", HIDDEN_PREFIXES)
def test_a_commit_that_only_a_hidden_ref_reaches_is_unknown(bench: Bench, hidden: bytes) -> None:
    secret = commit_on(bench, bench.first)
    name = RefName(hidden + b"1/head")
    move(bench, RefChange(branch_ref("side"), secret, bench.first), RefChange(name, ZERO_OID, secret))
    assert bench.browser.resolve(bench.id, secret) is None
    assert bench.browser.resolve(bench.id, name.decode()) is None


def test_a_commit_below_a_tag_or_under_no_branch_is_found(bench: Bench) -> None:
    second = commit_on(bench, bench.first)
    made = bench.writer.create_tag(bench.id, tag_ref("v1"), second, rules=RULES, message="m", tagger=ADA)
    tree = bench.browser.read_commits(bench.id, [second])[second].tree
    bench.writer.create_tag(bench.id, tag_ref("tree"), tree, rules=RULES)
    move(bench, RefChange(branch_ref("side"), second, ZERO_OID), RefChange(MAIN, bench.first, ZERO_OID))
    assert bench.browser.resolve(bench.id, second) == second
    assert bench.browser.resolve(bench.id, made) == second
    assert bench.browser.resolve(bench.id, bench.first) == bench.first


def test_a_fork_does_not_show_what_its_source_hides(bench: Bench) -> None:
    secret = commit_on(bench, bench.first)
    move(bench, RefChange(branch_ref("side"), secret, bench.first))
    fork = bench.ledger.fork(bench.id, uid=new_ulid(), identity={}, actor="user:8", hide=HIDDEN_PREFIXES)
    assert bench.browser.resolve(fork.id, secret) is None
    assert bench.browser.resolve(fork.id, bench.first) == bench.first


def test_a_repository_without_refs_shows_no_object(bench: Bench) -> None:
    move(bench, RefChange(MAIN, bench.first, ZERO_OID))
    assert bench.browser.resolve(bench.id, bench.first) is None


def move(bench: Bench, *changes: RefChange) -> None:
    """Refs moved by somebody else, as a forced push does."""
    outcome = bench.ledger.push(Push(new_ulid(), bench.id, "user:8", list(changes), prune_epoch=0))
    assert outcome.refused == {}


def test_a_deleted_branch_can_be_found_in_the_log(bench: Bench) -> None:
    bench.writer.create_branch(bench.id, branch_ref("gone"), bench.first, rules=RULES)
    bench.writer.delete_ref(bench.id, branch_ref("gone"), rules=RULES)
    history = bench.ledger.ref_history(bench.id, branch_ref("gone"))
    assert [each.refs[0].new for each in history] == [ZERO_OID, bench.first]


def test_a_push_of_somebody_else_is_seen_at_once(bench: Bench) -> None:
    name = branch_ref("elsewhere")
    bench.ledger.push(
        Push(new_ulid(), bench.id, "user:8", [RefChange(name, ZERO_OID, bench.first)], prune_epoch=0)
    )
    ref = bench.browser.branch(bench.id, "elsewhere")
    assert ref is not None
    assert ref.oid == bench.first
