"""Two sites and a witness in a world of one seed: its clocks, its network and its faults.

The sites decide by the very code that runs in life (`cluster.witness.tenure`, `candidacy`); what is made up
here is everything around it: time, messages, a database that is a list, and clients that push.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

from mainstay.cluster.witness import Overtaken, Record, Seen
from mainstay.cluster.witness.candidacy import Candidacy
from mainstay.cluster.witness.memory import MemoryWitness
from mainstay.cluster.witness.tenure import Look, Swap, Tenure
from mainstay.cluster.witness.terms import DRIFT, Terms
from mainstay.storage.database.fence import Claim

FAULTS_S = 50.0
QUIET_S = 40.0
"""After the last fault: by then somebody must acknowledge again."""
ANSWER_S = 1.2
ALONE_AFTER_S = 3.0
WITNESS = 2


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass(frozen=True)
class Rules:
    """What a control breaks on purpose."""

    terms: Terms = field(default_factory=Terms)
    checks_before_acknowledging: bool = True
    takes_over_when_behind: bool = False
    goes_alone_untold: bool = False


class World:
    """One schedule. `run` raises `Broken`."""

    def __init__(self, seed: int, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.random = Random(seed)
        self.now_s = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, int, Callable[[], None]]] = []
        self._frozen_until_s = [0.0, 0.0, 0.0]
        self._cut_until_s: dict[tuple[int, int], float] = {}
        self._slow_until_s = 0.0
        self._clocks = [
            (self.random.uniform(0, 1e5), self.random.choice([1 - DRIFT, 1.0, 1 + DRIFT])) for _ in range(3)
        ]
        self.witness = MemoryWitness(clock_s=lambda: self.clock_s(WITNESS))
        self.acknowledged: dict[int, tuple[float, int]] = {}
        self.highest_acknowledged = 0
        self.promotions = 0
        self.sites = [Site(self, 0), Site(self, 1)]
        terms = self.rules.terms
        self.witness.swap(None, Record(epoch=1, primary="0", term_ms=round(terms.term_s * 1000)))
        self.sites[0].reign(Claim(1, "0"))
        self.sites[1].follow(1)

    def clock_s(self, place: int) -> float:
        offset_s, rate = self._clocks[place]
        return offset_s + rate * self.now_s

    def at(self, place: int, after_s: float, do: Callable[[], None]) -> None:
        """`place` does it then, or when it thaws."""
        heapq.heappush(self._events, (self.now_s + after_s, next(self._order), place, do))

    def send(self, source: int, target: int, deliver: Callable[[], None]) -> None:
        if self._cut_until_s.get((source, target), 0) > self.now_s or self.random.random() < 0.01:
            return
        is_slow = self._slow_until_s > self.now_s or self.random.random() < 0.02
        delay_s = self.random.uniform(0.5, 5) if is_slow else self.random.uniform(0.001, 0.03)
        self.at(target, delay_s, deliver)

    def run(self) -> None:
        self._plan_faults()
        self._plan_pushes()
        end_s = FAULTS_S + QUIET_S
        while self._events and self._events[0][0] <= end_s:
            at_s, _, place, do = heapq.heappop(self._events)
            self.now_s = max(self.now_s, at_s)
            if place >= 0 and self._frozen_until_s[place] > self.now_s:
                heapq.heappush(self._events, (self._frozen_until_s[place], next(self._order), place, do))
                continue
            do()
        self._judge_the_end()

    def acknowledge(self, site: "Site", push: int) -> None:
        if site.epoch < self.highest_acknowledged:
            raise Broken(
                f"{self.now_s:.2f}: epoch {site.epoch} acknowledges after {self.highest_acknowledged}"
            )
        self._judge_alone(site)
        self.highest_acknowledged = site.epoch
        self.acknowledged[push] = (self.now_s, site.epoch)

    def promoted(self, site: "Site") -> None:
        self.promotions += 1
        self._judge_alone(site)
        lost = self.acknowledged.keys() - set(site.log)
        if lost:
            raise Broken(f"{self.now_s:.2f}: epoch {site.epoch} has lost {len(lost)} acknowledged pushes")

    def _judge_alone(self, site: "Site") -> None:
        other = self.sites[1 - site.place]
        if other.tenure and other.tenure.may_write(self.clock_s(other.place)):
            raise Broken(f"{self.now_s:.2f}: epochs {site.epoch} and {other.epoch} may both write")

    def _plan_faults(self) -> None:
        at_s = self.random.uniform(5, 15)
        while at_s < FAULTS_S:
            long_s = self.random.choice([0.7, 3, 9, 14, 20]) * self.random.uniform(0.7, 1.3)
            fault = self.random.choice(
                [self._cut, self._cut, self._isolate, self._freeze, self._freeze, self._slow, self._restart]
            )
            self.at(-1, at_s, partial(fault, min(long_s, FAULTS_S - at_s)))
            at_s += self.random.expovariate(1 / 6)

    def _plan_pushes(self) -> None:
        at_s = 0.0
        for push in itertools.count():
            at_s += self.random.expovariate(2)
            if at_s > FAULTS_S + QUIET_S:
                return
            for site in self.sites:
                self.at(site.place, at_s, partial(site.push, push * 2 + site.place))

    def _cut(self, length_s: float) -> None:
        """One direction, or both, of one line."""
        one, other = self.random.sample(range(3), 2)
        self._cut_until_s[one, other] = self.now_s + length_s
        if self.random.random() < 0.6:
            self._cut_until_s[other, one] = self.now_s + length_s

    def _isolate(self, length_s: float) -> None:
        alone = self._victim()
        for place in range(3):
            self._cut_until_s[alone, place] = self._cut_until_s[place, alone] = self.now_s + length_s

    def _freeze(self, length_s: float) -> None:
        self._frozen_until_s[self._victim()] = self.now_s + length_s

    def _victim(self) -> int:
        """Mostly a site that reigns: nothing else makes the other one take over."""
        reigning = [site.place for site in self.sites if site.tenure]
        return self.random.choice([*reigning, *reigning, 0, 1, WITNESS])

    def _slow(self, length_s: float) -> None:
        self._slow_until_s = self.now_s + min(length_s, 6)

    def _restart(self, _: float) -> None:
        """The witness, or what a replica remembers."""
        place = self.random.randrange(3)
        if place == WITNESS:
            self.witness.restart()
        else:
            self.sites[place].restart()

    def _judge_the_end(self) -> None:
        latest_s = max((at_s for at_s, _ in self.acknowledged.values()), default=0.0)
        if latest_s < FAULTS_S + QUIET_S - 15:
            raise Broken(f"nobody acknowledges any more since {latest_s:.1f}: {self.sites}")
        primary = max(self.sites, key=lambda site: site.epoch)
        lost = self.acknowledged.keys() - set(primary.log)
        if lost:
            raise Broken(f"{len(lost)} acknowledged pushes are gone at the end")


class Site:
    """A database that is a list of pushes, and who decides about it."""

    def __init__(self, world: World, place: int) -> None:
        self.world = world
        self.place = place
        self.name = str(place)
        self.other = 1 - place
        self.epoch = 0
        self.log: list[int] = []
        self.tenure: Tenure | None = None
        self.candidacy: Candidacy | None = None
        self._life = 0
        self._needs_standby = False
        self._standby_has = 0
        self._heard_s = 0.0
        self._waiting: dict[int, int] = {}
        self._is_following = False
        self._question = 0
        self._life_tick()

    def __repr__(self) -> str:
        role = "primary" if self.tenure else "replica"
        trouble = self.tenure.trouble if self.tenure else ""
        return f"<{self.name}: {role} of epoch {self.epoch}, {len(self.log)} pushes, {trouble}>"

    @property
    def _now_s(self) -> float:
        return self.world.clock_s(self.place)

    def reign(self, claim: Claim) -> None:
        self.epoch = claim.epoch
        self.candidacy = None
        self.tenure = Tenure(claim, self.world.rules.terms)
        self._needs_standby, self._standby_has, self._waiting = False, 0, {}
        self._heard_s = 0.0

    def follow(self, epoch: int) -> None:
        """What was not acknowledged and the primary does not have is put aside: here, forgotten."""
        self.epoch = epoch
        self.tenure = None
        self.candidacy = Candidacy(Claim(0, self.name), self.world.rules.terms, started_s=self._now_s)
        self._is_following, self._waiting = True, {}

    def restart(self) -> None:
        if self.candidacy is not None:
            self.follow(self.epoch)
        elif self.tenure is not None:
            needs, has = self._needs_standby, self._standby_has
            self.reign(self.tenure.me)
            self._needs_standby, self._standby_has = needs, has

    # Clients

    def push(self, push: int) -> None:
        if self.tenure is None or not self.tenure.may_write(self._now_s):
            return
        self.log.append(push)
        self._waiting[push] = len(self.log)
        self._replicate()
        self._acknowledge()

    def _acknowledge(self) -> None:
        for push, position in list(self._waiting.items()):
            if self._needs_standby and position > self._standby_has:
                continue
            del self._waiting[push]
            if self.world.rules.checks_before_acknowledging and not self._may_write():
                continue
            self.world.acknowledge(self, push)

    def _may_write(self) -> bool:
        return bool(self.tenure and self.tenure.may_write(self._now_s))

    # Replication

    def _replicate(self) -> None:
        epoch, log, length = self.epoch, self.log, len(self.log)
        there = self.world.sites[self.other]
        self.world.send(self.place, self.other, lambda: there.receive(epoch, log, length))

    def receive(self, epoch: int, log: list[int], length: int) -> None:
        """`log` is the sender's own, which grows; it was so long when it was sent."""
        if self.tenure is not None:
            if epoch > self.epoch:
                self.tenure.lose(Claim(epoch, str(self.other)))
                self._lost()
            return
        if not self._is_following or epoch < self.epoch:
            return
        if epoch > self.epoch:
            self.follow(epoch)
            self.log = log[:length]
        elif length > len(self.log):
            self.log.extend(log[len(self.log) : length])
        position, there = len(self.log), self.world.sites[self.other]
        self.world.send(self.place, self.other, lambda: there.confirmed(epoch, position))

    def confirmed(self, epoch: int, position: int) -> None:
        if self.tenure is None or epoch != self.epoch:
            return
        self._heard_s = self._now_s
        self._standby_has = max(self._standby_has, position)
        self._acknowledge()

    # Decisions, every now and then

    def _life_tick(self) -> None:
        if self.world.now_s or self.epoch:
            if self.tenure:
                self._primary_tick()
            else:
                self._replica_tick()
        every_s = self.world.rules.terms.renew_every_s * self.world.random.uniform(0.8, 1.2)
        self.world.at(self.place, every_s, self._life_tick)

    def _primary_tick(self) -> None:
        tenure = self.tenure
        assert tenure is not None
        self._replicate()
        self._arrange_standby(tenure)
        self._ask(tenure)

    def _arrange_standby(self, tenure: Tenure) -> None:
        """Alone only after the witness knows; together again only when nothing is missing there."""
        is_silent = self._now_s - self._heard_s > ALONE_AFTER_S
        if is_silent:
            tenure.want("")
            if tenure.may_acknowledge_alone() or self.world.rules.goes_alone_untold:
                self._needs_standby = False
                self._acknowledge()
            return
        self._needs_standby = True
        acknowledged_there = self._standby_has >= len(self.log) - len(self._waiting)
        if acknowledged_there:
            tenure.want(str(self.other))

    def _ask(self, tenure: Tenure) -> None:
        self._question += 1
        number, question = self._question, tenure.question(now_s=self._now_s, position=self._standby_has)

        def still() -> bool:
            return self.tenure is tenure and self._question == number

        def answered(kind: str, value: Any) -> None:
            if not still():
                return
            self._question += 1
            if kind == "seen":
                tenure.looked(value)
            elif kind == "granted":
                assert isinstance(question, Swap)
                tenure.granted(question, value)
            else:
                tenure.overtaken()
            if tenure.lost_to:
                self._lost()
            elif kind != "granted" and not tenure.trouble:
                self._ask(tenure)
            else:
                self._arrange_standby(tenure)

        def gave_up() -> None:
            if still():
                self._question += 1
                tenure.unanswered("no answer")
                self._ask_for_a_promise(tenure)

        self._tell_witness(question, answered)
        self.world.at(self.place, ANSWER_S, gave_up)

    def _ask_for_a_promise(self, tenure: Tenure) -> None:
        sent_s, there = self._now_s, self.world.sites[self.other]

        def promised() -> None:
            if self.tenure is tenure:
                tenure.promised(str(self.other), sent_s=sent_s)

        self.world.send(
            self.place, self.other, lambda: there.asked_to_promise(tenure.me.epoch, answer=promised)
        )

    def asked_to_promise(self, epoch: int, *, answer: Callable[[], None]) -> None:
        if self.candidacy is not None and self.candidacy.promise(epoch, now_s=self._now_s):
            self.world.send(self.place, self.other, answer)

    def _tell_witness(self, question: Look | Swap, answered: Callable[[str, Any], None]) -> None:
        def there() -> None:
            kind, value = self._witness_does(question)
            self.world.send(WITNESS, self.place, lambda: answered(kind, value))

        self.world.send(self.place, WITNESS, there)

    def _witness_does(self, question: Look | Swap) -> tuple[str, Any]:
        if isinstance(question, Look):
            return "seen", self.world.witness.look()
        try:
            return "granted", self.world.witness.swap(question.version, question.record)
        except Overtaken:
            return "overtaken", None

    def _lost(self) -> None:
        assert self.tenure is not None
        assert self.tenure.lost_to is not None
        self.follow(self.epoch)
        self.epoch = 0  # whatever the new primary sends is taken instead of what is here

    def _replica_tick(self) -> None:
        candidacy = self.candidacy
        assert candidacy is not None

        def answered(_: str, seen: Seen | None) -> None:
            if self.candidacy is candidacy:
                self._looked(candidacy, seen)

        self._tell_witness(Look(), answered)

    def _looked(self, candidacy: Candidacy, seen: Seen | None) -> None:
        if candidacy.asked is not None:
            self._settle(candidacy, seen)
            return
        named = candidacy.named(seen, now_s=self._now_s)
        if named is not None:
            self._reign_by(named)
            return
        if seen is None or not self._may_take_over(candidacy, seen):
            return
        self._is_following = False
        candidacy.take(seen, now_s=self._now_s)
        self._claim(candidacy)

    def _may_take_over(self, candidacy: Candidacy, seen: Seen) -> bool:
        verdict = candidacy.consider(seen, position=len(self.log), now_s=self._now_s)
        if self.world.rules.takes_over_when_behind and not seen.record.standby:
            return seen.age_s > seen.record.term_ms / 1000 and seen.record.primary != self.name
        return bool(verdict)

    def _settle(self, candidacy: Candidacy, seen: Seen | None) -> None:
        granted = candidacy.looked(seen)
        if granted is not None and seen is not None:
            self._reign_by(replace(granted, version=seen.version))
        elif candidacy.asked is None:
            self._is_following = True
        else:
            self._claim(candidacy)

    def _reign_by(self, granted: Swap) -> None:
        self.reign(Claim(granted.record.epoch, self.name))
        assert self.tenure is not None
        self.tenure.begin(granted.version, granted.record, sent_s=granted.sent_s)
        self.world.promoted(self)

    def _claim(self, candidacy: Candidacy) -> None:
        asked = candidacy.asked
        assert asked is not None

        def answered(_: str, __: Any) -> None:
            if self.candidacy is candidacy and candidacy.asked is not None:
                self._replica_tick()

        self._tell_witness(asked, answered)
