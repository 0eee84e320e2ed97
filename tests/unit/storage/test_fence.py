"""Who may write, decided from two files; and that the files are looked at, but seldom."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.storage.database import DatabaseAway
from mainstay.storage.database.fence import (
    LEASE_FILE,
    LOOK_S,
    SITE_FILE,
    Claim,
    Permit,
    SiteFence,
    SiteFenced,
    Standing,
    fence_of,
    lease_over_s,
    permit_text,
    refusal_for,
    standing_in,
    standing_text,
)

ME, OTHER = "01J000000000000000000000ME", "01J0000000000000000000THEM"
MINE = Claim(4, ME, "paris", "https://paris.example")
THEIRS = Claim(5, OTHER, "berlin", "https://berlin.example")
PRIMARY = Standing(ME, MINE, MINE)
BOOT = "boot-1"


def because(standing: Standing | None, permit: Permit | None = None, *, now_s: float = 100.0) -> str | None:
    refused = refusal_for(standing, permit, boot=BOOT, now_s=now_s)
    return refused.because if refused else None


def test_without_sites_and_on_the_primary_nothing_is_refused() -> None:
    assert because(None) is None
    assert because(Standing(ME, Claim(), Claim())) is None
    assert because(PRIMARY) is None


def test_a_site_that_has_seen_a_higher_epoch_is_superseded_and_says_by_whom() -> None:
    refused = refusal_for(replace(PRIMARY, highest=THEIRS), None, boot=BOOT, now_s=0)
    assert refused is not None
    assert refused.is_final
    assert refused.because == (
        "this site was superseded by berlin at epoch 5: push to https://berlin.example"
    )
    assert because(replace(PRIMARY, highest=Claim(5, OTHER))) == (
        f"this site was superseded by {OTHER} at epoch 5"
    )


def test_a_database_that_was_promoted_behind_our_back_takes_no_writes() -> None:
    theirs = replace(THEIRS, epoch=4)
    assert "was not promoted by `mainstay promote`" in str(because(Standing(ME, theirs, theirs)))


def test_two_sites_with_one_epoch_both_wait() -> None:
    theirs = replace(THEIRS, epoch=4)
    assert "berlin was promoted to epoch 4 as well" in str(because(replace(PRIMARY, highest=theirs)))


def test_a_replica_names_the_primary_and_one_that_is_being_promoted_says_so() -> None:
    replica = Standing(ME, THEIRS, THEIRS, is_replica=True)
    assert because(replica) == "this site is a replica of berlin: push to https://berlin.example"
    assert "has not ended" in str(because(replace(replica, highest=Claim(6, ME))))
    assert "has not ended" in str(because(replace(PRIMARY, highest=Claim(6, ME))))


@pytest.mark.parametrize(
    ("permit", "sentence"),
    [
        (None, "no lease from the witness yet"),
        (Permit(4, "boot-0", 200.0), "no lease from the witness yet"),
        (Permit(3, BOOT, 200.0), "no lease from the witness yet"),
        (Permit(4, BOOT, 99.5), "ended 0.5 s ago"),
        (Permit(4, BOOT, 100.0), "ended 0.0 s ago"),
    ],
)
def test_a_site_that_needs_a_lease_waits_without_one(permit: Permit | None, sentence: str) -> None:
    refused = refusal_for(replace(PRIMARY, needs_lease=True), permit, boot=BOOT, now_s=100.0)
    assert refused is not None
    assert sentence in refused.because
    assert not refused.is_final


def test_a_living_lease_lets_it_write() -> None:
    assert because(replace(PRIMARY, needs_lease=True), Permit(4, BOOT, 100.1)) is None


class Machine:
    """A data directory, a clock and a fence."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.now_s = 1000.0
        (data / "run").mkdir()
        self.fence = SiteFence(data, clock_s=lambda: self.now_s, boot=lambda: BOOT)

    def say(self, standing: Standing) -> None:
        self.put(SITE_FILE, standing_text(standing))

    def permit(self, until_s: float) -> None:
        self.put(LEASE_FILE, permit_text(Permit(4, BOOT, until_s)))

    def put(self, name: str, content: bytes) -> None:
        fresh = self.data / "fresh"
        fresh.write_bytes(content)
        fresh.replace(self.data / name)

    def after_a_look(self) -> str | None:
        self.now_s += LOOK_S
        return self.fence.refusal()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("standing", "permit", "over_s"),
    [
        (None, None, 0.0),
        (PRIMARY, None, 0.0),
        (replace(PRIMARY, needs_lease=True, is_replica=True), None, 0.0),
        (replace(PRIMARY, needs_lease=True), Permit(4, BOOT, 100.1), 0.0),
        (replace(PRIMARY, needs_lease=True), Permit(4, BOOT, 97.0), 3.0),
        (replace(PRIMARY, needs_lease=True), Permit(3, BOOT, 200.0), math.inf),
        (replace(PRIMARY, needs_lease=True), None, math.inf),
    ],
)
def test_since_when_a_lease_is_over(standing: Standing | None, permit: Permit | None, over_s: float) -> None:
    assert lease_over_s(standing, permit, boot=BOOT, now_s=100.0) == over_s


def test_what_is_written_is_read_again() -> None:
    standing = Standing(ME, MINE, THEIRS, is_replica=True, needs_lease=True)
    assert standing_in(standing_text(standing)) == standing


def test_a_change_counts_at_the_next_look_and_not_before(machine: Machine) -> None:
    assert machine.fence.refusal() is None
    machine.say(replace(PRIMARY, highest=THEIRS))
    machine.now_s += LOOK_S / 2
    assert machine.fence.refusal() is None
    assert "superseded" in str(machine.after_a_look())
    machine.say(PRIMARY)
    assert machine.after_a_look() is None


def test_a_file_that_is_deleted_still_counts(machine: Machine) -> None:
    machine.say(replace(PRIMARY, highest=THEIRS))
    assert machine.after_a_look() is not None
    (machine.data / SITE_FILE).unlink()
    assert "superseded" in str(machine.after_a_look())


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff", b"x" * 20_000, standing_text(PRIMARY).replace(b": 4", b": -4")],
)
def test_what_cannot_be_read_is_not_permitted_until_it_can(machine: Machine, content: bytes) -> None:
    machine.put(SITE_FILE, content)
    assert "is unreadable" in str(machine.after_a_look())
    assert "is unreadable" in str(machine.after_a_look())
    machine.say(PRIMARY)
    assert machine.after_a_look() is None


def test_a_lease_ends_between_two_looks(machine: Machine) -> None:
    machine.say(replace(PRIMARY, needs_lease=True))
    machine.permit(machine.now_s + 1.05)
    assert machine.after_a_look() is None
    machine.now_s += 0.8
    assert machine.fence.refusal() is None
    machine.now_s += 0.1
    assert "ended" in str(machine.fence.refusal())
    machine.permit(machine.now_s + 1)
    assert machine.after_a_look() is None
    (machine.data / LEASE_FILE).unlink()
    assert "no lease" in str(machine.after_a_look())


def test_a_lease_that_is_missing_is_waited_for_and_a_successor_is_not(machine: Machine) -> None:
    machine.say(replace(PRIMARY, needs_lease=True))
    assert machine.after_a_look()
    with pytest.raises(DatabaseAway, match="no lease") as refused:
        machine.fence.check()
    assert isinstance(refused.value, SiteFenced)
    assert not refused.value.is_final
    machine.say(replace(PRIMARY, needs_lease=True, highest=THEIRS))
    assert machine.after_a_look()
    with pytest.raises(SiteFenced) as superseded:
        machine.fence.check()
    assert not isinstance(superseded.value, DatabaseAway)


def test_before_a_commit_it_is_refused_and_after_it_unknown(machine: Machine) -> None:
    machine.fence.check()
    machine.fence.confirm()
    machine.say(replace(PRIMARY, highest=THEIRS))
    assert machine.after_a_look()
    with pytest.raises(SiteFenced, match="push to https://berlin") as refused:
        machine.fence.check()
    assert isinstance(refused.value, Unavailable)
    assert refused.value.retry_after_s == 60
    with pytest.raises(OutcomeUnknown, match="may not be acknowledged: this site was superseded"):
        machine.fence.confirm()


def test_between_looks_the_files_are_left_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.say(PRIMARY)
    assert machine.after_a_look() is None
    stats = []
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **how: (stats.append(self.name), real(self, **how))[1])
    for _ in range(1000):
        machine.fence.check()
    assert stats == []
    machine.after_a_look()
    assert stats == ["site.json", "lease.json"]


def test_a_process_has_one_fence_for_a_data_directory(tmp_path: Path) -> None:
    fence = fence_of(tmp_path)
    assert fence_of(tmp_path) is fence
    assert json.loads(standing_text(PRIMARY))["highest"]["name"] == "paris"
