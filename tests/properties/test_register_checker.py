"""The judge of histories is judged: against exhaustive search, and against planted faults of every size."""

import random
import time

import pytest

from support.chaos.exact import is_linearizable
from support.chaos.history import ABSENT, Operation, Read, Register, Verdict, Write, as_line, from_lines
from support.chaos.registers import check, half_pushes

MAIN = Register("ada/engine", "refs/heads/main")
HISTORIES = 3000


def write(old: str, new: str, call_s: float, return_s: float, verdict: Verdict = "ok") -> Write:
    return Write(register=MAIN, old=old, new=new, verdict=verdict, call_s=call_s, return_s=return_s)


def read(value: str, call_s: float, return_s: float) -> Read:
    return Read(register=MAIN, value=value, call_s=call_s, return_s=return_s)


def honest(chance: random.Random, count: int, *, register: Register = MAIN) -> list[Operation]:
    """What clients of a true register would record, and at last what it holds."""
    value = ABSENT
    past = [ABSENT]
    found: list[Operation] = []
    for number in range(count):
        at_s = number + chance.random() * 0.5
        call_s, return_s = at_s - chance.random() * 3, at_s + chance.random() * 3
        match chance.choice(["read", "swap", "swap", "stale", "unknown"]):
            case "read":
                found.append(Read(register=register, value=value, call_s=call_s, return_s=return_s))
                continue
            case "swap":
                old, verdict, happens = value, "ok", True
            case "stale":
                old = chance.choice(past)
                verdict, happens = ("ok", True) if old == value else ("fail", False)
            case _:
                old, verdict, happens = value, "info", chance.random() < 0.5
        new = f"v{number}"
        if happens:
            value = new
            past.append(new)
        found.append(
            Write(register=register, old=old, new=new, verdict=verdict, call_s=call_s, return_s=return_s)  # type: ignore[arg-type]
        )
    end_s = max(each.return_s for each in found) + 1
    return [*found, Read(register=register, value=value, call_s=end_s, return_s=end_s)]


def bent(chance: random.Random, history: list[Operation]) -> list[Operation]:
    """The same with one or two lies in it, some of which are none. What is there at the end is believed."""
    values = [ABSENT, *(each.new for each in history if isinstance(each, Write))]
    for _ in range(chance.randint(1, 2)):
        at = chance.randrange(len(history) - 1)
        each = history[at]
        shift_s = chance.uniform(-4, 4)
        call_s, return_s = each.call_s + shift_s, each.return_s + shift_s
        if isinstance(each, Read):
            value = chance.choice(values) if chance.random() < 0.5 else each.value
            history[at] = read(value, call_s, return_s)
        else:
            verdict: Verdict = chance.choice(["ok", "fail", "refused", "info", each.verdict])
            old = chance.choice(values) if chance.random() < 0.2 else each.old
            history[at] = write(old, each.new, call_s, return_s, verdict) if old != each.new else each
    return history


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_exhaustive_search(seed: int) -> None:
    chance = random.Random(seed)
    verdicts = {True: 0, False: 0}
    for _ in range(HISTORIES // 4):
        history = honest(chance, chance.randint(2, 9))
        if chance.random() < 0.7:
            history = bent(chance, history)
        exact = is_linearizable(history)
        verdicts[exact] += 1
        assert (check(history) == []) == exact, "\n".join(map(as_line, history))
    assert min(verdicts.values()) > 50, "both answers were needed"


@pytest.mark.parametrize("seed", range(3))
def test_an_honest_history_of_any_size_is_accepted(seed: int) -> None:
    assert check(honest(random.Random(seed), 20_000)) == []


def test_a_hundred_thousand_operations_take_seconds() -> None:
    chance = random.Random(1)
    history = [
        each for at in range(20) for each in honest(chance, 5000, register=Register("ada/engine", str(at)))
    ]
    started_s = time.process_time()
    assert check(history) == []
    assert time.process_time() - started_s < 20


@pytest.mark.parametrize("count", [4, 100, 10_000])
def test_planted_faults_are_found_at_every_size(count: int) -> None:
    line = [write(f"v{at}" if at else ABSENT, f"v{at + 1}", at, at + 0.5) for at in range(count)]
    middle = count // 2
    assert check(line) == []
    faults = {
        "lost update": write(f"v{middle}", "other", middle, middle + 0.4),
        "stale or future read": read(f"v{middle}", middle + 3.0, middle + 3.1),
        "phantom value": read("nobody wrote this", 1, 2),
        "refused but applied": write("x", "refused", 1, 2, "fail"),
        "refused for nothing": write(f"v{count}", "no", count + 5, count + 6, "fail"),
    }
    for kind, fault in faults.items():
        extra = [read("refused", 3, 4)] if kind == "refused but applied" else []
        found = check([*line, fault, *extra])
        assert found, kind
        if kind != "refused for nothing":
            assert kind in {each.kind for each in found}
    lost = check(line, final={MAIN: f"v{middle}"})
    assert lost, "an acknowledged push that is gone at the end"


def test_an_unknown_outcome_may_show_late_or_never() -> None:
    unknown = write(ABSENT, "a", 0, 1, "info")
    assert check([unknown, read(ABSENT, 5, 6)]) == []
    assert check([unknown, read(ABSENT, 5, 6), read("a", 7, 8)]) == []
    assert check([unknown, read("a", 5, 6), read(ABSENT, 7, 8)]) != []
    assert check([unknown, write("a", "b", 2, 3)]) == []


def test_a_deleted_ref_is_nothing_again() -> None:
    line = [write(ABSENT, "a", 0, 1), write("a", ABSENT, 2, 3)]
    assert check([*line, read(ABSENT, -1, -0.5), read("a", 1.5, 1.6), read(ABSENT, 4, 5)]) == []
    assert check([*line, read("a", 4, 5)]) != []
    assert check([*line, read(ABSENT, 1.5, 1.6)]) != []


def test_half_of_an_atomic_push_is_found() -> None:
    one, two = Register("r", "one"), Register("r", "two")
    parts = [
        Write(
            register=each,
            old=ABSENT,
            new=each.ref,
            verdict="info",
            call_s=0,
            return_s=1,
            push="p",
            atomic=True,
        )
        for each in (one, two)
    ]
    assert half_pushes(parts, {one: "one", two: "two"}) == []
    assert half_pushes(parts, {one: ABSENT, two: ABSENT}) == []
    assert [each.kind for each in half_pushes(parts, {one: "one", two: ABSENT})] == ["half push"]


def test_a_history_survives_its_file() -> None:
    history = honest(random.Random(3), 50)
    assert list(from_lines(map(as_line, history))) == history
