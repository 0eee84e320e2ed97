"""Who may do what with a witness, and what a primary and a replica make of its answers."""

from dataclasses import replace

import pytest

from mainstay.cluster.witness import BadRecord, Record, Seen, checked_successor, record_from, record_said
from mainstay.cluster.witness.candidacy import Candidacy
from mainstay.cluster.witness.decisions import (
    may_acknowledge_alone,
    may_take_over,
    may_write,
    refusal_of_automatic,
)
from mainstay.cluster.witness.memory import MemoryWitness
from mainstay.cluster.witness.tenure import Look, Swap, Tenure
from mainstay.cluster.witness.terms import BadTerms, Terms
from mainstay.storage.database.fence import Claim

TERMS = Terms()
PARIS = Claim(3, "PARIS", "paris", "https://paris.example")
RECORD = Record(epoch=3, primary="PARIS", name="paris", standby="BERLIN", position=70)
EXPIRED = Seen(RECORD, "v1", 10.0)


def take(seen: Seen | None, *, me: str = "BERLIN", position: int = 70, promised_left_s: float = 0.0) -> str:
    verdict = may_take_over(seen, me=me, position=position, promised_left_s=promised_left_s)
    return ("yes: " if verdict else "no: ") + verdict.because


class TestDecisions:
    def test_a_primary_writes_as_long_as_its_lease_lasts(self) -> None:
        assert may_write(until_s=10.0, now_s=9.9)
        assert may_write(until_s=10.0, now_s=10.0).because == "the lease ended 0.0 s ago"
        assert may_write(until_s=None, now_s=0).because == "no lease was granted yet"

    def test_a_replica_that_has_everything_takes_over_after_a_term(self) -> None:
        assert take(EXPIRED) == (
            "yes: the primary has not renewed for 10.0 s, and this site has all that it acknowledged"
        )

    def test_otherwise_it_waits_and_says_why(self) -> None:
        assert "may last 0.1 s more" in take(replace(EXPIRED, age_s=9.9))
        assert "no replica has everything" in take(replace(EXPIRED, record=replace(RECORD, standby="")))
        assert "another site is the synchronous replica" in take(EXPIRED, me="ROME")
        assert "is at 69 and was at 70" in take(EXPIRED, position=69)
        assert "promised to wait, for 2.5 s more" in take(EXPIRED, promised_left_s=2.5)
        assert "names this site already" in take(EXPIRED, me="PARIS")
        assert "the witness has no record" in take(None)
        assert not may_take_over(EXPIRED, me="BERLIN", position=99, promised_left_s=0, in_recovery=False), (
            "a database that follows nobody"
        )

    def test_a_primary_acknowledges_alone_only_when_the_witness_knows(self) -> None:
        alone = replace(RECORD, standby="")
        assert may_acknowledge_alone(alone, attempted=None)
        assert may_acknowledge_alone(alone, attempted="")
        assert not may_acknowledge_alone(alone, attempted="BERLIN"), "it may have been told"
        assert not may_acknowledge_alone(RECORD, attempted="")
        assert not may_acknowledge_alone(None, attempted=None)

    def test_automatic_failover_is_refused_with_a_reason(self) -> None:
        def refusal(sites: int = 2, *, has_witness: bool = True, is_synchronous: bool = True) -> str:
            return (
                refusal_of_automatic(sites=sites, has_witness=has_witness, is_synchronous=is_synchronous)
                or ""
            )

        assert refusal() == ""
        assert "a third vote: run `mainstay witness serve`" in refusal(has_witness=False)
        assert "`mainstay promote` prints what would be lost" in refusal(is_synchronous=False)
        assert "needs a second site" in refusal(1)


class TestTerms:
    def test_without_a_margin_for_drift_they_are_refused(self) -> None:
        for usable_s in (10.0, 9.81):
            with pytest.raises(BadTerms, match=r"may be used for less than 9\.80 s"):
                Terms(term_s=10, usable_s=usable_s)
        assert Terms(term_s=10, usable_s=9.79).usable_s == 9.79
        with pytest.raises(BadTerms, match="at least twice"):
            Terms(renew_every_s=5)


class TestRecord:
    def test_it_comes_back_as_it_went(self) -> None:
        assert record_from(record_said(RECORD)) == RECORD
        assert RECORD.is_synchronous

    @pytest.mark.parametrize(
        "change",
        [
            {"epoch": -1},
            {"epoch": True},
            {"epoch": 2**63},
            {"epoch": "3"},
            {"primary": ""},
            {"primary": "BERLIN"},
            {"name": "x" * 2049},
            {"name": None},
            {"more": 1},
        ],
        ids=str,
    )
    def test_what_is_none_is_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(BadRecord):
            record_from({**record_said(RECORD), **change})
        with pytest.raises(BadRecord):
            record_from([1])

    def test_epochs_never_fall_and_never_change_hands_without_rising(self) -> None:
        assert checked_successor(None, RECORD) == RECORD
        assert checked_successor(RECORD, replace(RECORD, standby="")).standby == ""
        assert checked_successor(RECORD, replace(RECORD, epoch=4, primary="BERLIN", standby="")).epoch == 4
        for bad in (replace(RECORD, epoch=2), replace(RECORD, primary="ROME")):
            with pytest.raises(BadRecord):
                checked_successor(RECORD, bad)


def reigning(standby: str = "BERLIN") -> Tenure:
    tenure = Tenure(PARIS, TERMS)
    tenure.looked(Seen(replace(RECORD, standby=standby), "v1", 0.0))
    swap = tenure.question(now_s=100.0, position=70)
    assert isinstance(swap, Swap)
    tenure.granted(swap, "v2")
    return tenure


class TestTenure:
    def test_it_looks_then_renews_and_counts_from_before_it_asked(self) -> None:
        tenure = Tenure(PARIS, TERMS)
        assert tenure.question(now_s=99.0, position=0) == Look()
        assert not tenure.may_write(99.0)
        tenure = reigning()
        assert tenure.until_s == 107.5
        assert tenure.may_write(107.4)
        assert not tenure.may_write(107.5)

    def test_each_renewal_is_another_record_and_keeps_the_standby_it_found(self) -> None:
        swap = reigning().question(now_s=101.0, position=90)
        assert isinstance(swap, Swap)
        assert (swap.version, swap.record.renewal, swap.record.position) == ("v2", 2, 90)
        assert swap.record.standby == "BERLIN"

    def test_going_alone_counts_when_it_is_confirmed(self) -> None:
        tenure = reigning()
        tenure.want("")
        swap = tenure.question(now_s=101.0, position=70)
        assert isinstance(swap, Swap)
        assert swap.record.standby == ""
        assert not tenure.may_acknowledge_alone()
        tenure.granted(swap, "v3")
        assert tenure.may_acknowledge_alone()
        assert tenure.confirmed_standby == ""

    def test_a_lost_answer_may_have_been_a_yes(self) -> None:
        tenure = reigning(standby="")
        assert tenure.may_acknowledge_alone()
        tenure.want("BERLIN")
        tenure.question(now_s=101.0, position=70)
        tenure.unanswered("no answer")
        assert not tenure.may_acknowledge_alone()
        assert tenure.question(now_s=102.0, position=70) == Look()
        tenure.looked(Seen(replace(RECORD, standby=""), "v2", 1.0))
        assert not tenure.may_acknowledge_alone(), "what was sent may still arrive"
        tenure.want("")
        swap = tenure.question(now_s=103.0, position=70)
        assert isinstance(swap, Swap)
        tenure.granted(swap, "v3")
        assert tenure.may_acknowledge_alone()

    def test_the_word_of_the_replica_that_could_take_over_is_as_good(self) -> None:
        tenure = reigning()
        tenure.promised("ROME", sent_s=105.0)
        assert tenure.until_s == 107.5
        tenure.promised("BERLIN", sent_s=105.0)
        assert tenure.until_s == 112.5
        alone = reigning(standby="")
        alone.promised("BERLIN", sent_s=105.0)
        assert alone.until_s == 107.5, "nobody could take over: nobody's word counts"

    def test_another_primary_ends_it_for_good(self) -> None:
        tenure = reigning()
        tenure.overtaken()
        assert tenure.question(now_s=101.0, position=70) == Look()
        tenure.looked(Seen(Record(epoch=4, primary="BERLIN", name="berlin"), "v9", 0.0))
        assert tenure.may_write(101.0).because == "berlin is the primary now"
        tenure.promised("BERLIN", sent_s=101.0)
        assert not tenure.may_write(101.0)

    def test_a_witness_that_has_lost_its_record_grants_nothing(self) -> None:
        tenure = reigning()
        tenure.unanswered("no answer")
        tenure.looked(None)
        assert "no record" in tenure.trouble
        assert tenure.question(now_s=101.0, position=70) == Look()
        assert not tenure.may_write(107.5)


class TestCandidacy:
    def candidacy(self) -> Candidacy:
        return Candidacy(Claim(0, "BERLIN", "berlin"), TERMS, started_s=0.0)

    def test_after_a_start_it_neither_takes_over_nor_promises(self) -> None:
        candidacy = self.candidacy()
        assert "promised to wait" in candidacy.consider(EXPIRED, position=70, now_s=9.9).because
        assert "started just now" in candidacy.promise(3, now_s=9.9).because
        assert candidacy.consider(EXPIRED, position=70, now_s=10.0)

    def test_a_promise_holds_for_a_term(self) -> None:
        candidacy = self.candidacy()
        assert candidacy.promise(3, now_s=20.0)
        assert not candidacy.consider(EXPIRED, position=70, now_s=29.9)
        assert candidacy.consider(EXPIRED, position=70, now_s=30.0)

    def test_it_promises_nothing_to_a_primary_of_the_past(self) -> None:
        candidacy = self.candidacy()
        candidacy.consider(replace(EXPIRED, record=replace(RECORD, epoch=5)), position=70, now_s=20.0)
        assert "epoch 3 is over" in candidacy.promise(3, now_s=21.0).because
        assert candidacy.stand(6, now_s=21.0) == 0.0
        assert not candidacy.promise(5, now_s=22.0)

    def test_until_the_fate_of_its_question_is_known_it_promises_nothing(self) -> None:
        candidacy = self.candidacy()
        asked = candidacy.take(EXPIRED, now_s=20.0)
        assert (asked.version, asked.record.epoch, asked.record.primary) == ("v1", 4, "BERLIN")
        assert asked.record.standby == ""
        assert candidacy.promise(3, now_s=21.0).because == "this site is taking over"
        assert candidacy.looked(EXPIRED) is None
        assert candidacy.asked == asked, "it may still arrive"
        assert candidacy.looked(Seen(replace(RECORD, renewal=8), "v2", 0.0)) is None
        assert candidacy.asked is None
        assert candidacy.promise(3, now_s=22.0)

    def test_a_look_shows_that_it_was_granted(self) -> None:
        candidacy = self.candidacy()
        asked = candidacy.take(EXPIRED, now_s=20.0)
        assert candidacy.looked(Seen(asked.record, "v2", 0.5)) == asked
        assert candidacy.asked is None


def test_the_whole_of_it_in_memory() -> None:
    now_s = [0.0]
    witness = MemoryWitness(clock_s=lambda: now_s[0])
    version = witness.swap(None, RECORD)
    now_s[0] = 10.0
    seen = witness.look()
    assert seen == Seen(RECORD, version, 10.0)
    candidacy = Candidacy(Claim(0, "BERLIN"), TERMS, started_s=0.0)
    assert candidacy.consider(seen, position=70, now_s=now_s[0])
    asked = candidacy.take(seen, now_s=now_s[0])
    witness.swap(asked.version, asked.record)
    assert candidacy.looked(witness.look()) == asked
    tenure = reigning()
    tenure.overtaken()
    tenure.looked(witness.look())
    assert tenure.lost_to == Claim(4, "BERLIN")
