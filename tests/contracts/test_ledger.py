"""What the ledger promises, on every database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Conflict
from mainstay.foundation.failpoints import FailpointError, arm
from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import ZERO_OID, RefName
from mainstay.storage.database import ConstraintBroken, Database
from mainstay.storage.ledger import (
    EpochMoved,
    Ledger,
    NoSuchRepository,
    NotWritable,
    PacksMoved,
    PushIdTaken,
    PushOutcome,
    Ref,
    RefChange,
    UploadReaped,
)
from mainstay.storage.ledger.chain import FIRST, hash_of
from mainstay.storage.ledger.check import verify_chain
from mainstay.storage.ledger.replay import replay
from mainstay.storage.ledger.sql import SqlLedger
from support.ledgers import (
    ADA,
    MAIN,
    a_pack,
    a_push,
    a_repository,
    an_oid,
    create,
    delete,
    pack_ids,
    refs_of,
    update,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(database: Database, clock: ManualClock) -> Iterator[Ledger]:
    made = SqlLedger(database, clock)
    yield made
    for repository in made.repositories():
        assert verify_chain(database, repository.id) == []


# Repositories


def test_a_new_repository_is_empty_and_at_version_1(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger, identity={"path": "ada/engine"})
    assert ledger.repository(repository.id) == repository
    assert (repository.version, repository.write_state, repository.head) == (1, "writable", MAIN)
    assert (repository.network_id, repository.object_format) == (repository.id, "sha1")
    assert repository.identity == {"path": "ada/engine"}
    assert ledger.refs(repository.id) == (1, [])
    assert ledger.packs(repository.id) == (1, 0, [])
    [birth] = ledger.changes(repository.id, after=0)
    assert (birth.kind, birth.version, birth.actor, birth.at_ms) == ("create", 1, ADA, clock.now_ms())
    assert (birth.head, birth.identity, birth.previous_hash) == (MAIN, {"path": "ada/engine"}, FIRST)


def test_a_uid_is_given_out_once(ledger: Ledger) -> None:
    taken = a_repository(ledger)
    with pytest.raises(ConstraintBroken):
        ledger.create_repository(uid=taken.uid, head=MAIN, identity={}, actor=ADA)
    assert ledger.repositories() == [taken]


def test_what_is_not_there_is_said_so(ledger: Ledger) -> None:
    for ask in (ledger.repository, ledger.refs, ledger.packs, ledger.snapshot):
        with pytest.raises(NoSuchRepository, match="no repository 404"):
            ask(404)
    with pytest.raises(NoSuchRepository):
        ledger.push(a_push(404, create(MAIN)))
    with pytest.raises(NoSuchRepository):
        ledger.ref_changes(404, after=0)


def test_repositories_come_in_pages(ledger: Ledger) -> None:
    made = [a_repository(ledger) for _ in range(5)]
    first = ledger.repositories(limit=2)
    rest = ledger.repositories(after_id=first[-1].id, limit=100)
    assert first + rest == made


def test_head_identity_and_state_change_by_one_version_each(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    assert ledger.set_head(repository.id, RefName(b"refs/heads/dev"), actor=ADA) == 2
    assert ledger.set_identity(repository.id, {"path": "b"}, actor=ADA) == 3
    assert ledger.set_write_state(repository.id, "read_only", actor=ADA) == 4
    now = ledger.repository(repository.id)
    assert (now.version, now.head, now.identity, now.write_state) == (
        4,
        b"refs/heads/dev",
        {"path": "b"},
        "read_only",
    )
    assert [c.kind for c in ledger.changes(repository.id, after=1)] == ["head", "identity", "state"]


def test_default_branches_are_told_together_and_only_those_that_exist(ledger: Ledger) -> None:
    born, unborn, elsewhere = (a_repository(ledger).id for _ in range(3))
    side = RefName(b"refs/heads/side")
    ledger.push(a_push(born, create(MAIN, 1), create(side, 1)))
    ledger.push(a_push(elsewhere, create(side, 2)))
    ledger.set_head(elsewhere, side, actor=ADA)
    assert ledger.default_branches([born, unborn, elsewhere, born, 10**9]) == {born: MAIN, elsewhere: side}
    assert ledger.default_branches([]) == {}


def test_setting_what_is_already_so_changes_nothing(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    assert ledger.set_head(repository.id, MAIN, actor=ADA) == 1
    assert ledger.set_identity(repository.id, repository.identity, actor=ADA) == 1
    assert ledger.set_write_state(repository.id, "writable", actor=ADA) == 1


def test_a_read_only_repository_refuses_pushes_until_it_is_writable_again(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.set_write_state(repository.id, "read_only", actor=ADA)
    with pytest.raises(NotWritable):
        ledger.push(a_push(repository, create(MAIN)))
    with pytest.raises(NotWritable):
        ledger.set_head(repository.id, RefName(b"refs/heads/x"), actor=ADA)
    ledger.set_write_state(repository.id, "writable", actor=ADA)
    assert ledger.push(a_push(repository, create(MAIN))).version == 4


def test_a_deleted_repository_is_gone_but_its_log_stays(ledger: Ledger, database: Database) -> None:
    repository = a_repository(ledger)
    pack = a_pack()
    ledger.push(a_push(repository, create(MAIN), packs=[pack]))
    ledger.set_write_state(repository.id, "deleted", actor=ADA)
    for ask in (ledger.repository, ledger.refs, ledger.packs, ledger.snapshot):
        with pytest.raises(NoSuchRepository):
            ask(repository.id)
    with pytest.raises(NoSuchRepository):
        ledger.push(a_push(repository, create(MAIN)))
    assert ledger.repositories() == []
    assert ledger.changes(repository.id, after=2)[0].packs_removed == [pack.id]
    assert verify_chain(database, repository.id) == []


# Forks


def test_a_fork_has_refs_and_packs_of_that_moment(ledger: Ledger) -> None:
    source = a_repository(ledger)
    shared, later = a_pack(), a_pack()
    hidden = b"refs/merge-requests/1/head"
    ledger.push(a_push(source, create(MAIN), create(b"refs/heads/x", 2), create(hidden, 3), packs=[shared]))
    fork = ledger.fork(
        source.id,
        uid=new_ulid(),
        identity={"path": "bob/engine"},
        actor="user:2",
        hide=[b"refs/merge-requests/"],
    )
    ledger.push(a_push(source, update(MAIN, 1, 4), packs=[later]))
    assert (fork.version, fork.network_id, fork.head) == (1, source.id, MAIN)
    assert refs_of(ledger, fork) == {MAIN: an_oid(1), b"refs/heads/x": an_oid(2)}
    assert pack_ids(ledger.packs(fork.id)[2]) == [shared.id]
    [birth] = ledger.changes(fork.id, after=0)
    assert (birth.kind, birth.details["source"], birth.details["source_version"]) == ("fork", source.uid, 2)


def test_a_fork_of_a_fork_is_of_the_same_network(ledger: Ledger) -> None:
    source = a_repository(ledger)
    fork = ledger.fork(source.id, uid=new_ulid(), identity={}, actor=ADA)
    again = ledger.fork(fork.id, uid=new_ulid(), identity={}, actor=ADA)
    assert again.network_id == source.id


def test_a_shared_pack_is_doomed_when_the_last_one_lets_go(ledger: Ledger, clock: ManualClock) -> None:
    source = a_repository(ledger)
    shared = a_pack()
    ledger.push(a_push(source, create(MAIN), packs=[shared]))
    fork = ledger.fork(source.id, uid=new_ulid(), identity={}, actor=ADA)
    ledger.set_write_state(source.id, "deleted", actor=ADA)
    clock.advance(10)
    assert ledger.doomed_packs(doomed_before_ms=clock.now_ms()) == []
    ledger.swap_packs(fork.id, remove=[shared.id], add=[a_pack()], intents=[], actor=ADA)
    assert ledger.doomed_packs(doomed_before_ms=clock.now_ms()) == []
    assert pack_ids(ledger.doomed_packs(doomed_before_ms=clock.now_ms() + 1)) == [shared.id]


# Pushes


def test_a_push_moves_refs_and_adds_packs_in_one_version(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    pack = a_pack(artefacts=("idx", "rev"))
    tag = RefChange(RefName(b"refs/tags/v1"), ZERO_OID, an_oid(7), peeled=an_oid(1))
    push = a_push(repository, create(MAIN), tag, packs=[pack], details={"address": "192.0.2.1"})
    assert ledger.push(push) == PushOutcome(2, {})
    assert ledger.refs(repository.id) == (2, [Ref(MAIN, an_oid(1)), Ref(tag.name, an_oid(7), an_oid(1))])
    version, manifest_version, [stored] = ledger.packs(repository.id)
    assert (version, manifest_version) == (2, 0)
    assert (stored.id, stored.added_version, stored.artefacts) == (pack.id, 2, ("idx", "rev"))
    [change] = ledger.changes(repository.id, after=1)
    assert (change.kind, change.push_id, change.actor) == ("push", push.push_id, ADA)
    assert list(change.refs) == [create(MAIN), tag]
    assert change.packs_added == [stored]
    assert change.details == {"address": "192.0.2.1"}
    assert change.at_ms == clock.now_ms()


def test_refs_are_sorted_as_bytes_and_names_may_be_any_bytes(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    names = [
        b"refs/heads/\xff\xfe",
        b"refs/heads/a-b",
        b"refs/heads/a",
        b"refs/heads/Z",
        "refs/heads/ü".encode(),
    ]
    ledger.push(a_push(repository, *[create(name) for name in names]))
    assert [ref.name for ref in ledger.refs(repository.id)[1]] == sorted(names)
    assert [ref.name for ref in ledger.changes(repository.id, after=1)[0].refs] == sorted(names)


def test_a_ref_moves_only_from_where_the_push_thinks_it_is(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN, 1)))
    outcome = ledger.push(a_push(repository, update(MAIN, 2, 3)))
    assert outcome.version is None
    assert outcome.refused == {MAIN: "expected 000000000000, found 000000000000"}
    assert ledger.push(a_push(repository, update(MAIN, 1, 3))).version == 3
    assert refs_of(ledger, repository) == {MAIN: an_oid(3)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (create(MAIN, 2), "reference already exists"),
        (RefChange(MAIN, ZERO_OID, ZERO_OID), "reference already exists"),
        (update(b"refs/heads/none", 1, 2), "reference does not exist"),
        (delete(b"refs/heads/none"), "reference does not exist"),
        (RefChange(RefName(b"refs/heads/none"), ZERO_OID, ZERO_OID), "reference does not exist"),
        (create(b"refs/heads/main/sub"), "'refs/heads/main' exists"),
        (create(b"refs/heads"), "'refs/heads/main' exists"),
        (create(b"refs/heads/" + b"x" * 2048), "reference name is longer than 2048 bytes"),
    ],
)
def test_refs_that_do_not_fit_are_refused_and_the_others_move(
    ledger: Ledger, change: RefChange, reason: str
) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN, 1)))
    outcome = ledger.push(a_push(repository, change, create(b"refs/heads/fine")))
    assert outcome == PushOutcome(3, {change.name: reason})
    assert refs_of(ledger, repository) == {MAIN: an_oid(1), b"refs/heads/fine": an_oid(1)}


def test_an_atomic_push_moves_all_or_nothing(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN, 1)))
    other = b"refs/heads/other"
    outcome = ledger.push(a_push(repository, create(other), create(MAIN, 2), packs=[a_pack()], atomic=True))
    assert outcome == PushOutcome(None, {other: "atomic push failed", MAIN: "reference already exists"})
    assert ledger.repository(repository.id).version == 2
    assert ledger.packs(repository.id)[2] == []
    assert ledger.push(a_push(repository, create(other), update(MAIN, 1, 2), atomic=True)).version == 3


def test_a_ref_named_twice_does_not_move(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    outcome = ledger.push(a_push(repository, create(MAIN, 1), create(MAIN, 2), create(b"refs/heads/x")))
    assert outcome == PushOutcome(2, {MAIN: "multiple updates for this reference"})
    assert refs_of(ledger, repository) == {b"refs/heads/x": an_oid(1)}


def test_a_deletion_in_the_same_push_makes_room(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(b"refs/heads/a", 1), create(b"refs/heads/b/c", 1)))
    push = a_push(
        repository,
        create(b"refs/heads/a/x"),
        delete(b"refs/heads/a"),
        delete(b"refs/heads/b/c"),
        create(b"refs/heads/b"),
    )
    assert ledger.push(push).refused == {}
    assert refs_of(ledger, repository).keys() == {b"refs/heads/a/x", b"refs/heads/b"}


def test_a_deletion_makes_no_room_where_others_still_live(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(b"refs/heads/a/x"), create(b"refs/heads/a/y")))
    outcome = ledger.push(a_push(repository, delete(b"refs/heads/a/x"), create(b"refs/heads/a")))
    assert outcome == PushOutcome(3, {b"refs/heads/a": "'refs/heads/a/y' exists"})


def test_of_two_new_refs_that_exclude_each_other_the_first_wins(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    outcome = ledger.push(a_push(repository, create(b"refs/heads/a/b"), create(b"refs/heads/a")))
    assert outcome.refused == {b"refs/heads/a": "'refs/heads/a/b' exists"}
    outcome = ledger.push(a_push(repository, create(b"refs/heads/z"), create(b"refs/heads/z/y")))
    assert outcome.refused == {b"refs/heads/z/y": "'refs/heads/z' exists"}


def test_names_beside_a_directory_are_no_conflict(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    names = [b"refs/heads/a/b", b"refs/heads/a-b", b"refs/heads/a0", b"refs/heads/a.b"]
    for name in names:
        assert ledger.push(a_push(repository, create(name))).refused == {}


def test_a_push_that_moves_nothing_leaves_no_trace(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN)))
    intent = ledger.begin_upload(repository.id, ["k"], expires_ms=clock.now_ms())
    push = a_push(repository, update(MAIN, 1, 1), packs=[a_pack()], intents=[intent])
    assert ledger.push(push) == PushOutcome(None, {})
    assert ledger.outcome_of(push.push_id) is None
    assert ledger.repository(repository.id).version == 2
    assert ledger.packs(repository.id)[2] == []
    assert [left.id for left in ledger.claim_uploads(expired_at_ms=clock.now_ms())] == [intent]


def test_the_same_push_again_hears_the_same(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(b"refs/heads/\xffa")))
    push = a_push(repository, create(MAIN), create(b"refs/heads/\xffa", 2), packs=[a_pack()])
    first = ledger.push(push)
    ledger.push(a_push(repository, update(MAIN, 1, 2)))
    ledger.set_write_state(repository.id, "read_only", actor=ADA)
    assert first == PushOutcome(3, {b"refs/heads/\xffa": "reference already exists"})
    assert ledger.push(push) == first
    assert ledger.outcome_of(push.push_id) == first
    assert refs_of(ledger, repository)[MAIN] == an_oid(2)


def test_a_push_id_belongs_to_one_repository(ledger: Ledger) -> None:
    mine, other = a_repository(ledger), a_repository(ledger)
    ledger.push(a_push(mine, create(MAIN), push_id="P"))
    with pytest.raises(PushIdTaken):
        ledger.push(a_push(other, create(MAIN), push_id="P"))
    assert refs_of(ledger, other) == {}


def test_a_push_validated_in_another_epoch_is_refused(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    with pytest.raises(EpochMoved):
        ledger.push(a_push(repository, create(MAIN), prune_epoch=1))
    assert ledger.refs(repository.id) == (1, [])


def test_a_crash_before_the_commit_leaves_nothing(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    intent = ledger.begin_upload(repository.id, ["k"], expires_ms=clock.now_ms())
    push = a_push(repository, create(MAIN), packs=[a_pack()], intents=[intent])
    arm("ledger.push_applied=error")
    try:
        with pytest.raises(FailpointError):
            ledger.push(push)
    finally:
        arm("")
    assert ledger.outcome_of(push.push_id) is None
    assert ledger.refs(repository.id) == (1, [])
    assert ledger.take_events(owner="w", lease_s=1) == []
    assert ledger.push(push).version == 2


def test_head_moves_to_the_choice_of_the_push_only_if_it_points_nowhere(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    trunk, other = RefName(b"refs/heads/trunk"), RefName(b"refs/heads/other")
    ledger.push(a_push(repository, create(other), head=RefName(b"refs/heads/missing")))
    assert ledger.repository(repository.id).head == MAIN
    ledger.push(a_push(repository, create(trunk), head=trunk))
    assert ledger.repository(repository.id).head == trunk
    assert ledger.changes(repository.id, after=2)[0].head == trunk
    ledger.push(a_push(repository, update(other, 1, 2), head=other))
    assert ledger.repository(repository.id).head == trunk


@pytest.mark.parametrize("count", [1, 1200])
def test_pushes_of_any_size_follow_the_same_rules(ledger: Ledger, count: int) -> None:
    repository = a_repository(ledger)
    names = [b"refs/heads/%d/x" % i for i in range(count)]
    assert ledger.push(a_push(repository, *[create(name) for name in names])).refused == {}
    moves = [update(name, 1, 2) for name in names]
    blocked = create(b"refs/heads/0")
    assert ledger.push(a_push(repository, *moves, blocked)).refused.keys() == {blocked.name}
    assert set(refs_of(ledger, repository).values()) == {an_oid(2)}
    assert ledger.push(a_push(repository, *[delete(name, 2) for name in names], blocked)).refused == {}
    assert refs_of(ledger, repository) == {blocked.name: an_oid(1)}


# Concurrency


def _together(count: int, work: "list[object]") -> list[PushOutcome]:
    barrier = Barrier(count)

    def start(task: object) -> PushOutcome:
        barrier.wait(timeout=30)
        return task()  # type: ignore[operator,no-any-return]

    with ThreadPoolExecutor(count) as threads:
        return [running.result() for running in [threads.submit(start, task) for task in work]]


def test_pushes_to_different_refs_all_succeed(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    pushes = [a_push(repository, create(b"refs/heads/%d" % i), packs=[a_pack()]) for i in range(8)]
    outcomes = _together(8, [lambda push=push: ledger.push(push) for push in pushes])
    assert sorted(outcome.version or 0 for outcome in outcomes) == list(range(2, 10))
    assert len(refs_of(ledger, repository)) == 8


def test_of_pushes_to_the_same_ref_exactly_one_wins(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN, 1)))
    pushes = [a_push(repository, update(MAIN, 1, 10 + i)) for i in range(8)]
    outcomes = _together(8, [lambda push=push: ledger.push(push) for push in pushes])
    winners = [i for i, outcome in enumerate(outcomes) if outcome.version is not None]
    assert len(winners) == 1
    assert refs_of(ledger, repository) == {MAIN: an_oid(10 + winners[0])}


def test_the_same_push_sent_by_eight_threads_happens_once(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    push = a_push(repository, create(MAIN), packs=[a_pack()])
    outcomes = _together(8, [lambda: ledger.push(push)] * 8)
    assert outcomes == [PushOutcome(2, {})] * 8
    assert ledger.repository(repository.id).version == 2


def test_of_new_refs_that_exclude_each_other_one_wins_between_threads(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    pushes = [a_push(repository, create(name)) for name in (b"refs/heads/a", b"refs/heads/a/b")]
    outcomes = _together(2, [lambda push=push: ledger.push(push) for push in pushes])
    assert sorted(len(outcome.refused) for outcome in outcomes) == [0, 1]


def test_a_commit_and_the_sweeper_never_both_win(ledger: Ledger, clock: ManualClock) -> None:
    for turn in range(5):
        repository = a_repository(ledger)
        intent = ledger.begin_upload(repository.id, ["k"], expires_ms=clock.now_ms())
        push = a_push(repository, create(MAIN), packs=[a_pack()], intents=[intent])

        def commit(push: object = push) -> bool:
            try:
                return ledger.push(push).version is not None  # type: ignore[arg-type]
            except UploadReaped:
                return False

        def sweep(intent: str = intent) -> bool:
            claimed = ledger.claim_uploads(expired_at_ms=clock.now_ms())
            return intent in [upload.id for upload in claimed]

        outcomes = _together(2, [commit, sweep])
        assert sorted(outcomes) == [False, True], f"turn {turn}"


def test_a_shared_pack_that_two_drop_at_once_is_doomed(ledger: Ledger, clock: ManualClock) -> None:
    for _ in range(5):
        source = a_repository(ledger)
        shared = a_pack()
        ledger.push(a_push(source, create(MAIN), packs=[shared]))
        fork = ledger.fork(source.id, uid=new_ulid(), identity={}, actor=ADA)

        def drop(repository_id: int, pack_id: str = shared.id) -> int:
            return ledger.swap_packs(repository_id, remove=[pack_id], add=[], intents=[], actor=ADA)

        _together(2, [lambda id_=id_: drop(id_) for id_ in (source.id, fork.id)])
        assert shared.id in pack_ids(ledger.doomed_packs(doomed_before_ms=clock.now_ms() + 1))


# Reading what changed


def test_named_refs_are_those_that_exist(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(b"refs/heads/b"), create(MAIN)))
    names = [MAIN, RefName(b"refs/heads/none"), RefName(b"refs/heads/b"), MAIN]
    version, found = ledger.refs_named(repository.id, names)
    assert (version, [ref.name for ref in found]) == (2, [b"refs/heads/b", MAIN])
    assert ledger.refs_named(repository.id, []) == (2, [])


def test_ref_changes_are_the_tail_since_a_version(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN)))
    ledger.push(a_push(repository, update(MAIN, 1, 2), create(b"refs/heads/x")))
    ledger.set_head(repository.id, RefName(b"refs/heads/x"), actor=ADA)
    tail = [(3, update(MAIN, 1, 2)), (3, create(b"refs/heads/x"))]
    assert ledger.ref_changes(repository.id, after=2) == (4, tail)
    assert ledger.ref_changes(repository.id, after=3) == (4, [])
    assert ledger.ref_changes(repository.id, after=4) == (4, [])
    assert ledger.ref_changes(repository.id, after=2, limit=2) == (4, tail)
    assert ledger.ref_changes(repository.id, after=2, limit=1) is None
    assert ledger.ref_changes(repository.id, after=9) is None, "a version of the future"


def test_the_history_of_a_ref_is_newest_first(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN), create(b"refs/heads/x")))
    ledger.push(a_push(repository, update(b"refs/heads/x", 1, 2)))
    ledger.push(a_push(repository, delete(MAIN)))
    history = ledger.ref_history(repository.id, MAIN)
    assert [(change.version, list(change.refs)) for change in history] == [
        (4, [delete(MAIN)]),
        (2, [create(MAIN)]),
    ]
    assert len(ledger.ref_history(repository.id, MAIN, limit=1)) == 1
    assert ledger.ref_history(repository.id, RefName(b"refs/heads/none")) == []


def test_changes_come_in_pages_with_their_refs(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    for i in range(5):
        ledger.push(a_push(repository, create(b"refs/heads/%d" % i)))
    first = ledger.changes(repository.id, after=0, limit=3)
    rest = ledger.changes(repository.id, after=3, limit=100)
    assert [change.version for change in first + rest] == [1, 2, 3, 4, 5, 6]
    assert [list(change.refs) for change in rest] == [[create(b"refs/heads/%d" % i)] for i in (2, 3, 4)]


def test_each_change_is_chained_to_the_one_before(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(b"refs/heads/\xff"), packs=[a_pack()], details={"é": [1, None]}))
    ledger.set_head(repository.id, RefName(b"refs/heads/\xff"), actor=ADA)
    changes = ledger.changes(repository.id, after=0)
    assert [change.previous_hash for change in changes[1:]] == [change.hash for change in changes[:-1]]
    assert all(hash_of(change) == change.hash for change in changes)
    assert ledger.snapshot(repository.id).hash == changes[-1].hash


def test_unjournaled_changes_wait_until_they_are_marked(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    clock.advance(1)
    ledger.push(a_push(repository, create(MAIN)))
    waiting = ledger.unjournaled()
    assert waiting == ledger.changes(repository.id, after=0)
    assert ledger.unjournaled(limit=1) == waiting[:1]
    ledger.mark_journaled([(repository.id, 1)])
    assert ledger.unjournaled() == waiting[1:]
    ledger.mark_journaled([(repository.id, 2), (repository.id, 1)])
    assert ledger.unjournaled() == []


# Packs and uploads


def test_an_upload_is_consumed_by_its_commit(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    intent = ledger.begin_upload(repository.id, ["a", "b"], expires_ms=clock.now_ms())
    ledger.push(a_push(repository, create(MAIN), packs=[a_pack()], intents=[intent]))
    assert ledger.claim_uploads(expired_at_ms=clock.now_ms() + 1) == []
    assert not ledger.extend_upload(intent, expires_ms=clock.now_ms() + 5)


def test_a_claimed_upload_cannot_be_committed(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    intent = ledger.begin_upload(repository.id, ["a", "b"], expires_ms=clock.now_ms() + 1000)
    assert ledger.claim_uploads(expired_at_ms=clock.now_ms()) == []
    assert ledger.extend_upload(intent, expires_ms=clock.now_ms() + 2000)
    assert ledger.claim_uploads(expired_at_ms=clock.now_ms() + 1000) == []
    [claimed] = ledger.claim_uploads(expired_at_ms=clock.now_ms() + 2000)
    assert (claimed.id, claimed.repository_id, claimed.keys) == (intent, repository.id, ["a", "b"])
    assert not ledger.extend_upload(intent, expires_ms=clock.now_ms() + 9000)
    with pytest.raises(UploadReaped):
        ledger.push(a_push(repository, create(MAIN), packs=[a_pack()], intents=[intent]))
    assert ledger.refs(repository.id) == (1, [])
    assert ledger.claim_uploads(expired_at_ms=0) == [claimed], "a sweeper may have died half-way"
    ledger.forget_upload(intent)
    assert ledger.claim_uploads(expired_at_ms=clock.now_ms() + 9000) == []


def test_an_upload_serves_only_its_own_repository(ledger: Ledger, clock: ManualClock) -> None:
    mine, other = a_repository(ledger), a_repository(ledger)
    intent = ledger.begin_upload(other.id, ["a"], expires_ms=clock.now_ms())
    with pytest.raises(UploadReaped):
        ledger.push(a_push(mine, create(MAIN), packs=[a_pack()], intents=[intent]))


def test_a_swap_replaces_packs_and_dooms_the_old_ones(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    small = [a_pack(), a_pack()]
    for i, pack in enumerate(small):
        ledger.push(a_push(repository, create(b"refs/heads/%d" % i), packs=[pack]))
    big = a_pack(kind="compact", sealed=True)
    intent = ledger.begin_upload(repository.id, ["k"], expires_ms=clock.now_ms())
    version = ledger.swap_packs(
        repository.id, remove=pack_ids(small), add=[big], intents=[intent], actor="system:0"
    )
    at_version, manifest_version, [left] = ledger.packs(repository.id)
    assert (version, at_version, manifest_version) == (4, 4, 4)
    assert (left.id, left.kind, left.sealed, left.added_version) == (big.id, "compact", True, 4)
    assert len(refs_of(ledger, repository)) == 2
    assert ledger.doomed_packs(doomed_before_ms=clock.now_ms()) == []
    doomed = ledger.doomed_packs(doomed_before_ms=clock.now_ms() + 1)
    assert sorted(pack_ids(doomed)) == sorted(pack_ids(small))
    ledger.forget_pack(small[0].id)
    assert pack_ids(ledger.doomed_packs(doomed_before_ms=clock.now_ms() + 1)) == [small[1].id]


def test_a_swap_of_packs_that_moved_changes_nothing(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    pack = a_pack()
    ledger.push(a_push(repository, create(MAIN), packs=[pack]))
    with pytest.raises(PacksMoved):
        ledger.swap_packs(repository.id, remove=[pack.id, new_ulid()], add=[a_pack()], intents=[], actor=ADA)
    assert pack_ids(ledger.packs(repository.id)[2]) == [pack.id]
    assert ledger.doomed_packs(doomed_before_ms=clock.now_ms() + 1) == []
    assert ledger.repository(repository.id).version == 2


def test_a_pack_in_use_is_not_forgotten(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    pack = a_pack()
    ledger.push(a_push(repository, create(MAIN), packs=[pack]))
    ledger.forget_pack(pack.id)
    assert pack_ids(ledger.packs(repository.id)[2]) == [pack.id]


def test_artefacts_are_added_beside_a_pack(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    pack = a_pack()
    ledger.push(a_push(repository, create(MAIN), packs=[pack]))
    intent = ledger.begin_upload(repository.id, ["k.bitmap"], expires_ms=clock.now_ms())
    version = ledger.add_artefacts(repository.id, pack.id, ["bitmap", "idx"], intents=[intent], actor=ADA)
    assert version == 3
    assert ledger.packs(repository.id)[2][0].artefacts == ("bitmap", "idx")
    assert ledger.packs(repository.id)[:2] == (3, 0)
    with pytest.raises(PacksMoved):
        ledger.add_artefacts(repository.id, new_ulid(), ["rev"], intents=[], actor=ADA)


# Snapshots and rebuilding


def _a_life(ledger: Ledger) -> int:
    """A repository with a bit of everything in its log."""
    repository = a_repository(ledger)
    packs = [a_pack(), a_pack()]
    ledger.push(a_push(repository, create(MAIN), create(b"refs/heads/\xfe"), packs=packs[:1]))
    ledger.push(a_push(repository, update(MAIN, 1, 2), delete(b"refs/heads/\xfe"), packs=packs[1:]))
    ledger.add_artefacts(repository.id, packs[0].id, ["rev"], intents=[], actor=ADA)
    ledger.swap_packs(repository.id, remove=[packs[1].id], add=[a_pack()], intents=[], actor=ADA)
    ledger.set_head(repository.id, RefName(b"refs/heads/dev"), actor=ADA)
    ledger.set_identity(repository.id, {"path": "new"}, actor=ADA)
    ledger.set_write_state(repository.id, "read_only", actor=ADA)
    return repository.id


def test_a_replay_of_the_log_gives_the_snapshot(ledger: Ledger) -> None:
    repository_id = _a_life(ledger)
    changes = ledger.changes(repository_id, after=0)
    assert replay(changes) == ledger.snapshot(repository_id)
    assert replay(changes[4:], replay(changes[:4])) == ledger.snapshot(repository_id)


def test_a_restored_repository_equals_the_lost_one(ledger: Ledger, database: Database) -> None:
    repository_id = _a_life(ledger)
    snapshot, changes = ledger.snapshot(repository_id), ledger.changes(repository_id, after=0)
    with database.write() as tx:
        for table in ("repository_pack", "pack", "ref", "ref_change", "change", "repository"):
            tx.execute(f"DELETE FROM ledger_{table}")
    ledger.restore(snapshot, changes)
    assert ledger.snapshot(repository_id) == snapshot
    assert ledger.changes(repository_id, after=0) == changes
    assert ledger.unjournaled() == [], "they came from the journal"
    assert verify_chain(database, repository_id) == []
    assert a_repository(ledger).id > repository_id


def test_forks_come_back_sharing_their_packs(ledger: Ledger, database: Database) -> None:
    source = a_repository(ledger)
    ledger.push(a_push(source, create(MAIN), packs=[a_pack()]))
    fork = ledger.fork(source.id, uid=new_ulid(), identity={}, actor=ADA)
    kept = [(ledger.snapshot(id_), ledger.changes(id_, after=0)) for id_ in (source.id, fork.id)]
    with database.write() as tx:
        for table in ("repository_pack", "pack", "ref", "ref_change", "change", "repository"):
            tx.execute(f"DELETE FROM ledger_{table}")
    for snapshot, changes in reversed(kept):
        ledger.restore(snapshot, changes)
    assert [ledger.snapshot(id_) for id_ in (source.id, fork.id)] == [snapshot for snapshot, _ in kept]


def test_a_repository_restored_from_a_checkpoint_goes_on(ledger: Ledger, database: Database) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN)))
    snapshot = ledger.snapshot(repository.id)
    with database.write() as tx:
        for table in ("ref", "ref_change", "change", "repository"):
            tx.execute(f"DELETE FROM ledger_{table}")
    ledger.restore(snapshot, [])
    ledger.push(a_push(repository, update(MAIN, 1, 2)))
    assert ledger.ref_changes(repository.id, after=2) == (3, [(3, update(MAIN, 1, 2))])
    assert ledger.ref_changes(repository.id, after=1) is None, "the log does not reach back that far"
    assert verify_chain(database, repository.id) == []


def test_nothing_is_restored_over_what_is_there(ledger: Ledger) -> None:
    repository = a_repository(ledger)
    with pytest.raises(Conflict, match="is there already"):
        ledger.restore(ledger.snapshot(repository.id), [])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("UPDATE ledger_ref SET oid = ? WHERE name <> ?", "the log gives"),
        ("DELETE FROM ledger_ref WHERE ? <> name AND name <> ?", "the table holds None"),
        ("UPDATE ledger_change SET actor = 'mallory' WHERE version = 2 AND ? <> ?", "does not give its hash"),
        ("DELETE FROM ledger_change WHERE version = 2 AND ? <> ?", "version 3 follows version 1"),
        (
            "DELETE FROM ledger_ref_change WHERE version = 2 AND name <> ? AND name <> ?",
            "does not give its hash",
        ),
        ("UPDATE ledger_repository SET version = 9 WHERE head <> ? AND head <> ?", "the log gives"),
        ("DELETE FROM ledger_repository_pack WHERE ? <> ?", "not in the manifest"),
    ],
)
def test_the_check_finds_damage(database: Database, clock: ManualClock, damage: str, problem: str) -> None:
    ledger = SqlLedger(database, clock)
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN), packs=[a_pack()]))
    ledger.push(a_push(repository, create(b"refs/heads/x")))
    assert verify_chain(database, repository.id) == []
    with database.write() as tx:
        tx.execute(damage, (b"\x01" * 20, b"\x02" * 20))
    [found, *_] = verify_chain(database, repository.id)
    assert problem in found


# The outbox


def test_a_push_leaves_one_event(ledger: Ledger, clock: ManualClock) -> None:
    repository = a_repository(ledger)
    push = a_push(repository, create(MAIN), create(b"refs/heads/x"))
    ledger.push(push)
    [event] = ledger.take_events(owner="w1", lease_s=60)
    assert event.topic == "push"
    assert event.payload == {"repository_id": repository.id, "version": 2, "push_id": push.push_id}
    assert (event.at_ms, event.attempts) == (clock.now_ms(), 1)


def test_a_taken_event_comes_back_only_when_its_lease_ends(ledger: Ledger, clock: ManualClock) -> None:
    ledger.add_event("greeting", {"to": "Ada"})
    [event] = ledger.take_events(owner="w1", lease_s=60)
    clock.advance(59)
    assert ledger.take_events(owner="w2", lease_s=60) == []
    clock.advance(1)
    [again] = ledger.take_events(owner="w2", lease_s=60)
    assert (again.id, again.attempts) == (event.id, 2)
    ledger.finish_events([again.id])
    clock.advance(1000)
    assert ledger.take_events(owner="w1", lease_s=60) == []


def test_events_are_taken_oldest_first_and_never_twice(ledger: Ledger) -> None:
    for i in range(40):
        ledger.add_event("count", {"i": i})
    first = ledger.take_events(owner="w", lease_s=60, limit=8)
    assert [event.payload["i"] for event in first] == list(range(8))
    taken = _together(4, [lambda: ledger.take_events(owner="w", lease_s=60, limit=8)] * 4)
    assert len({event.id for batch in taken for event in batch}) == 32  # type: ignore[attr-defined]
