"""A primary that keeps its lease, a replica that watches, a person who promotes: driven step by step."""

from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.cluster.epochs import Superseded
from mainstay.cluster.witness import Record, Seen, WitnessAway
from mainstay.cluster.witness.arbiter import WitnessArbiter, first_record
from mainstay.cluster.witness.keeping import Keeper, PermitFile
from mainstay.cluster.witness.memory import MemoryWitness
from mainstay.cluster.witness.terms import Terms
from mainstay.cluster.witness.watching import Granted, Watcher
from mainstay.foundation.errors import Unavailable
from mainstay.storage.database.fence import LEASE_FILE, Claim, SiteFence, Standing, standing_text

TERMS = Terms()
PARIS, BERLIN = Claim(3, "PARIS", "paris"), Claim(0, "BERLIN", "berlin")
BOOT = "boot-1"


class ShakyWitness(MemoryWitness):
    """May be away, or do what it is asked and lose the answer."""

    is_away = False
    loses_answers = False

    def look(self) -> Seen | None:
        if self.is_away:
            raise WitnessAway("the witness does not answer")
        return super().look()

    def swap(self, version: str | None, record: Record) -> str:
        if self.is_away:
            raise WitnessAway("the witness does not answer")
        made = super().swap(version, record)
        if self.loses_answers:
            raise WitnessAway("the witness does not answer")
        return made


class Replica:
    """The other site: a database and a word."""

    site_id = "BERLIN"

    def __init__(self) -> None:
        self.at: int | None = 70
        self.says: bool | None = True
        self.asked: list[int] = []
        self.did: list[str] = []
        self.granted: Granted | None = None
        self.loses_on_stop = 0

    def promise(self, epoch: int) -> bool:
        self.asked.append(epoch)
        if self.says is None:
            raise Unavailable("cut off")
        return self.says

    def position(self) -> int | None:
        return self.at

    def stop_following(self) -> None:
        self.did.append("stopped")
        self.at = (self.at or 0) - self.loses_on_stop

    def follow_again(self) -> None:
        self.did.append("follows")

    def promote(self, granted: Granted) -> None:
        self.did.append("promoted")
        self.granted = granted


class Scene:
    def __init__(self, data: Path) -> None:
        (data / "run").mkdir()
        self.data = data
        self.now_s = 1000.0
        self.witness = ShakyWitness(clock_s=self.clock_s)
        self.witness.swap(None, first_record(PARIS, TERMS))
        self.replica = Replica()
        self.lost: list[Claim] = []
        self.keeper = Keeper(
            PARIS,
            witness=self.witness,
            permit=PermitFile(data, boot=lambda: BOOT),
            voter=lambda: self.replica,
            position=lambda: 70,
            lost=self.lost.append,
            terms=TERMS,
            clock_s=self.clock_s,
        )
        self.watcher = Watcher(
            BERLIN, witness=self.witness, follower=self.replica, terms=TERMS, clock_s=self.clock_s
        )
        (data / "site.json").write_bytes(standing_text(Standing("PARIS", PARIS, PARIS, needs_lease=True)))
        self.fence = SiteFence(data, clock_s=self.clock_s, boot=lambda: BOOT, look_s=0)

    def clock_s(self) -> float:
        return self.now_s

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


class TestKeeper:
    def test_it_lets_every_process_of_the_site_write_for_a_while(self, scene: Scene) -> None:
        assert scene.fence.refusal() is not None
        assert scene.keeper.renew()
        assert scene.fence.refusal() is None
        scene.pass_time(7.4)
        assert scene.fence.refusal() is None
        scene.pass_time(0.1)
        assert "ended" in str(scene.fence.refusal())
        assert scene.keeper.renew()
        assert scene.fence.refusal() is None

    def test_without_the_witness_the_replica_is_asked(self, scene: Scene) -> None:
        assert scene.keeper.name_standby("BERLIN")
        scene.witness.is_away = True
        scene.pass_time(7.0)
        assert scene.keeper.renew()
        assert scene.replica.asked == [3]
        scene.pass_time(7.0)
        assert scene.fence.refusal() is None
        scene.replica.says = False
        assert scene.keeper.renew()
        scene.pass_time(0.5)
        assert not scene.keeper.renew()
        scene.replica.says = None
        assert not scene.keeper.renew()
        assert "ended" in str(scene.fence.refusal())
        scene.witness.is_away = False
        assert scene.keeper.renew()
        assert scene.fence.refusal() is None

    def test_alone_is_alone_only_when_the_witness_has_said_so(self, scene: Scene) -> None:
        assert scene.keeper.name_standby("BERLIN")
        scene.witness.is_away = True
        assert not scene.keeper.name_standby("")
        scene.witness.is_away = False
        scene.witness.loses_answers = True
        assert not scene.keeper.name_standby("")
        scene.witness.loses_answers = False
        assert scene.keeper.name_standby("")

    def test_it_goes_on_after_a_lost_answer(self, scene: Scene) -> None:
        scene.replica.says = None
        scene.witness.loses_answers = True
        assert not scene.keeper.renew()
        scene.witness.loses_answers = False
        assert scene.keeper.renew()

    def test_it_ends_when_another_is_named(self, scene: Scene) -> None:
        scene.keeper.renew()
        seen = scene.witness.look()
        assert seen is not None
        scene.witness.swap(seen.version, Record(epoch=4, primary="BERLIN", name="berlin"))
        assert scene.keeper.renew().because == "berlin is the primary now"
        assert scene.lost == [Claim(4, "BERLIN", "berlin")]
        assert not (scene.data / LEASE_FILE).exists()
        assert "no lease" in str(scene.fence.refusal())
        scene.keeper.renew()
        assert len(scene.lost) == 1, "said once"

    def test_its_thread_renews_until_it_is_closed(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path)
        scene.keeper.start()
        scene.keeper.close()
        assert scene.keeper.tenure.until_s == 1007.5


class TestWatcher:
    def test_it_takes_over_when_the_primary_is_silent_for_a_term(self, scene: Scene) -> None:
        scene.keeper.name_standby("BERLIN")
        assert not scene.watcher.look()
        scene.pass_time(9.9)
        assert not scene.watcher.look()
        assert "may last 0.1 s more" in scene.watcher.latest.because
        scene.pass_time(0.1)
        assert scene.watcher.look()
        assert scene.replica.did == ["stopped", "promoted"]
        granted = scene.replica.granted
        assert granted is not None
        assert (granted.record.epoch, granted.record.primary, granted.sent_s) == (4, "BERLIN", scene.now_s)
        assert not scene.keeper.renew()

    def test_it_has_to_have_everything_after_it_stopped_following(self, scene: Scene) -> None:
        scene.keeper.name_standby("BERLIN")
        scene.keeper.renew()
        scene.replica.loses_on_stop = 1
        scene.pass_time(10)
        assert not scene.watcher.look()
        assert scene.replica.did == ["stopped", "follows"]
        assert "is at 69 and was at 70" in scene.watcher.latest.because

    def test_it_does_not_when_it_may_lack_something_or_follows_nobody(self, scene: Scene) -> None:
        scene.keeper.renew()
        scene.pass_time(20)
        assert not scene.watcher.look()
        assert "no replica has everything" in scene.watcher.latest.because
        scene.replica.at = None
        assert not scene.watcher.look()
        assert "not that of a replica" in scene.watcher.latest.because

    def test_while_an_answer_is_lost_it_promises_nothing_and_then_finds_out(self, scene: Scene) -> None:
        scene.keeper.name_standby("BERLIN")
        scene.pass_time(10)
        scene.witness.loses_answers = True
        assert not scene.watcher.look()
        assert scene.watcher.promise(3).because == "this site is taking over"
        assert scene.watcher.look(), "the look shows that it was granted"
        assert scene.replica.did == ["stopped", "promoted"]

    def test_what_was_granted_before_a_restart_is_found_after_it(self, scene: Scene) -> None:
        scene.keeper.name_standby("BERLIN")
        scene.pass_time(10)
        scene.witness.loses_answers = True
        assert not scene.watcher.look()
        scene.witness.loses_answers = False
        again = Watcher(
            BERLIN, witness=scene.witness, follower=scene.replica, terms=TERMS, clock_s=scene.clock_s
        )
        scene.pass_time(10)
        assert again.promise(3), "it does not know yet"
        scene.pass_time(9.9)
        assert not again.look()
        scene.pass_time(0.1)
        assert again.look()
        assert scene.replica.did == ["stopped", "stopped", "promoted"]
        assert scene.replica.granted is not None
        assert scene.replica.granted.sent_s + TERMS.usable_s < scene.now_s, "its lease counts as over"

    def test_a_primary_that_comes_back_in_time_keeps_the_lease(self, scene: Scene) -> None:
        scene.keeper.name_standby("BERLIN")
        scene.pass_time(10)
        late = scene.witness.look()
        assert late is not None
        assert scene.keeper.renew()
        granted = scene.watcher._candidacy
        granted.take(late, now_s=scene.now_s)
        assert not scene.watcher.look()
        assert scene.replica.did == ["follows"]
        assert scene.watcher.promise(3)

    def test_its_word_keeps_it_waiting(self, scene: Scene) -> None:
        scene.keeper.name_standby("BERLIN")
        scene.pass_time(12)
        assert scene.watcher.promise(3)
        assert not scene.watcher.look()
        assert "promised to wait" in scene.watcher.latest.because
        assert scene.watcher.stand(4) == 10.0
        assert not scene.watcher.promise(3)


class TestArbiter:
    def test_it_waits_until_the_lease_before_has_ended(self, scene: Scene) -> None:
        slept: list[float] = []
        arbiter = WitnessArbiter(scene.witness, TERMS, sleep=slept.append)
        scene.pass_time(4)
        berlin = replace(BERLIN, epoch=4)
        arbiter.name(berlin)
        assert arbiter.last() == berlin
        assert slept == [6.0]
        arbiter.name(berlin)
        assert slept == [6.0], "once more changes nothing"

    def test_it_refuses_what_is_behind(self, scene: Scene) -> None:
        arbiter = WitnessArbiter(scene.witness, TERMS, sleep=lambda _: None)
        with pytest.raises(Superseded, match="names 'paris' at epoch 3"):
            arbiter.name(replace(BERLIN, epoch=3))
        with pytest.raises(Superseded):
            arbiter.name(replace(PARIS, epoch=2))

    def test_a_new_witness_is_enrolled_by_it(self) -> None:
        witness = MemoryWitness()
        arbiter = WitnessArbiter(witness, TERMS, sleep=lambda _: pytest.fail("nobody was named before"))
        assert arbiter.last() is None
        arbiter.name(PARIS)
        assert arbiter.last() == PARIS
