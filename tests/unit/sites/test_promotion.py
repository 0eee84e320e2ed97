"""When a replica may become the primary, what that would cost, and how it goes on after a kill."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.ops.sites.losses import (
    Heard,
    Here,
    KnownPush,
    LastPush,
    MovedRef,
    as_answer,
    forecast,
    sentences,
)
from mainstay.ops.sites.memory import Memory, MemoryUnreadable
from mainstay.ops.sites.promotion import STEPS, Go, Progress, Refuse, View, decide

REPLICA = View(is_replica=True, primary="paris", primary_silent_s=12.0)


def refused(view: View) -> str:
    found = decide(view)
    assert isinstance(found, Refuse)
    return found.because


def test_a_replica_whose_primary_is_silent_may_be_promoted() -> None:
    assert decide(REPLICA) == Go("paris does not answer; it was last heard 12 s ago")


def test_while_the_primary_answers_it_takes_force() -> None:
    answering = replace(REPLICA, primary_answers=True)
    assert "paris answers" in refused(answering)
    assert decide(replace(answering, is_forced=True)) == Go("paris answers, and --force was given")


def test_a_primary_and_a_superseded_one_are_not_promoted() -> None:
    done = decide(View(is_replica=False, is_primary=True))
    assert isinstance(done, Refuse)
    assert done.is_done
    assert "replica add" in refused(View(is_replica=False, is_superseded=True))
    assert "not a replica" in refused(View(is_replica=False))
    assert "cache" in refused(replace(REPLICA, kind="cache"))


def test_what_was_begun_goes_on_whatever_else_is_true() -> None:
    assert isinstance(decide(View(is_replica=False, was_begun=True)), Go)


def test_progress_is_kept_and_only_what_is_left_is_done(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert memory.progress() is None
    progress = Progress(started_ms=5, from_epoch=1, old_primary="paris").with_done("begun").with_done("begun")
    memory.note_progress(progress.with_done("database"))
    kept = Memory(tmp_path).progress()
    assert kept is not None
    assert kept.is_under_way
    assert kept.left() == ["protected", "epoch", "followers", "released", "announced"]
    for step in STEPS:
        kept = kept.with_done(step)
    assert not kept.is_under_way


def test_a_memory_that_is_damaged_is_not_a_fresh_start(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "promotion.json").write_text("{}")
    with pytest.raises(MemoryUnreadable):
        Memory(tmp_path).progress()
    (tmp_path / "sites" / "heard.json").write_text("nonsense")
    assert Memory(tmp_path).heard() is None


HEARD = Heard(
    at_ms=10_000,
    site_id="PARIS",
    name="paris",
    wal=5_000,
    last_push=LastPush(repository_id=1, version=7, at_ms=9_000),
)
HERE = Here(now_ms=22_000, received=5_000, replayed=5_000, last_commit_ms=9_000)
PUSH = KnownPush(
    repository_id=1,
    project="root/engine",
    version=8,
    push_id="p8",
    person="ada",
    at_ms=9_500,
    refs=[MovedRef(name="refs/heads/main", oid="1f3c" * 10)],
)


def test_in_sync_mode_nothing_is_lost_and_the_proof_is_said() -> None:
    found = forecast(replace(HEARD, waits_for_us=True), replace(HERE, is_listed_sync=True))
    assert found.is_zero
    assert sentences(found)[1] == "would be lost: nothing"
    assert "only after this site had it on disk" in found.because


def test_without_both_halves_of_the_proof_nothing_is_promised() -> None:
    assert not forecast(HEARD, replace(HERE, is_listed_sync=True)).is_zero
    assert not forecast(replace(HEARD, waits_for_us=True), HERE).is_zero


def test_in_async_mode_what_cannot_be_known_is_said() -> None:
    found = forecast(replace(HEARD, wal=5_600), HERE)
    assert (found.silent_s, found.missing_bytes, found.is_zero) == (12.0, 600, False)
    assert "last heard 12 s ago and it had 600 bytes of log more" in found.because
    assert sentences(found)[-1] == "would be lost, as far as is known: nothing"


def test_a_push_of_the_journal_is_named_by_project_ref_oid_person_and_time() -> None:
    found = forecast(HEARD, replace(HERE, pushes=[PUSH]))
    assert found.lost == [PUSH]
    line = sentences(found)[1]
    assert line == (
        "would be lost: root/engine: refs/heads/main to 1f3c1f3c1f3c, by ada, at 1970-01-01T00:00:09.500Z"
    )


def test_what_the_journal_brings_back_is_not_lost_and_what_was_only_prepared_is_unsure() -> None:
    back, prepared = replace(PUSH, is_recoverable=True), replace(PUSH, version=0)
    found = forecast(HEARD, replace(HERE, pushes=[back, prepared]))
    assert (found.lost, found.recovered, found.unsure) == ([], [back], [prepared])
    assert any(line.startswith("comes back from the journal") for line in sentences(found))


def test_the_last_push_that_the_primary_named_and_that_is_not_here_is_lost() -> None:
    found = forecast(HEARD, replace(HERE, has_last_push=False))
    assert found.named_missing == HEARD.last_push
    assert any("version 7 of repository 1" in line for line in sentences(found))
    assert not forecast(replace(HEARD, waits_for_us=True), replace(HERE, has_last_push=False)).is_zero


def test_a_primary_that_was_never_heard_proves_nothing() -> None:
    found = forecast(None, HERE)
    assert (found.silent_s, found.is_zero) == (None, False)
    assert "never heard" in found.because


def test_what_was_heard_is_remembered(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.note_heard(HEARD)
    assert Memory(tmp_path).heard() == HEARD
    assert json.dumps(as_answer(forecast(HEARD, HERE)))


def test_what_only_this_site_had_is_offered_until_somebody_has_taken_it(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert memory.diverged() == {}
    memory.keep_diverged("x-000000000002.json", b"two")
    memory.keep_diverged("x-000000000001.json", b"one")
    assert list(memory.diverged().values()) == ["one", "two"]
    memory.note_adopted("x-000000000001.json")
    assert Memory(tmp_path).diverged() == {"x-000000000002.json": "two"}
    assert (tmp_path / "sites" / "diverged" / "x-000000000001.adopted").read_bytes() == b"one"


def test_what_was_lost_is_kept_for_people(tmp_path: Path) -> None:
    Memory(tmp_path).keep_lost("x-000000000003.json", b"three")
    assert (tmp_path / "sites" / "lost" / "x-000000000003.json").read_bytes() == b"three"
