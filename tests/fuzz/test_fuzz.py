"""Feed every parser of foreign bytes with mutations of good input.

Under plain pytest each target gets a fixed number of inputs, the same in every run. For a long run set
`MAINSTAY_FUZZ_SECONDS`: then atheris, which looks for new paths, gets that much time for each target.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.targets import TARGETS, Target

INPUTS = int(os.environ.get("MAINSTAY_FUZZ_INPUTS", "20000"))
SECONDS = int(os.environ.get("MAINSTAY_FUZZ_SECONDS", "0"))

INTERESTING = [
    b"0000",
    b"0001",
    b"0002",
    b"0003",
    b"0004",
    b"fff0",
    b"ffff",
    b"\0",
    b"\n",
    b" ",
    b"'",
    b"\\",
    b"..",
    b"/",
]
FOUND: list[tuple[str, bytes]] = [
    ("pkt_line", b"\x04+0f1"),
    ("pkt_line", b"\x04988\n"),
    ("pkt_line", b"\x041_00"),
]
"""Inputs that once broke a parser, here or elsewhere."""


def mutations(seeds: list[bytes], *, seed: str, count: int) -> Iterator[bytes]:
    """Deterministic children of `seeds`: bytes changed, cut out, doubled, replaced, spliced."""
    chance = random.Random(seed)
    yield b""
    yield from seeds
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            mutate(chance, data, seeds)
        yield bytes(data)


def mutate(chance: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.choice([1, 1, 2, 4, 16]))
    kind = chance.randrange(6)
    if kind == 0:
        data[at:end] = chance.randbytes(end - at)
    elif kind == 1:
        del data[at:end]
    elif kind == 2:
        data[at:at] = data[at:end]
    elif kind == 3:
        data[at:end] = chance.choice(INTERESTING)
    elif kind == 4:
        other = chance.choice(seeds)
        data[at:] = other[chance.randint(0, len(other)) :]
    else:
        data[at:end] = bytes((byte ^ (1 << chance.randrange(8))) for byte in data[at:end])


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_are_refused_or_understood(name: str) -> None:
    target, seeds = TARGETS[name]
    for data in mutations(seeds, seed=name, count=INPUTS):
        check(name, data, target)


def check(name: str, data: bytes, target: Target) -> None:
    try:
        target(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding, and wants its input shown
        pytest.fail(f"{name}: {data!r} raised {error!r}")


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_found_stays_repaired(name: str, data: bytes) -> None:
    check(name, data, TARGETS[name][0])


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("name", TARGETS if SECONDS else [])
def test_atheris_finds_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(TARGETS[name][1]):
        (corpus / str(number)).write_bytes(seed)
    script = Path(__file__).with_name("run.py")
    options = [f"-max_total_time={SECONDS}", f"-artifact_prefix={tmp_path}/", "-max_len=2000", str(corpus)]
    done = subprocess.run(
        [sys.executable, str(script), name, *options], capture_output=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-4000:]
