"""Answers that a herd asks for are made once."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mainstay.cache.responses import Responses, Write, key_of
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Unavailable


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def responses(tmp_path: Path, clock: ManualClock) -> Responses:
    return Responses(tmp_path / "responses", size_bytes_max=1000, clock=clock)


class Reader:
    """A client; `pause` holds it back at every chunk."""

    def __init__(self, pause: Callable[[], Awaitable[None]] | None = None) -> None:
        self.read = b""
        self.begun = asyncio.Event()
        self._pause = pause

    async def write(self, chunk: bytes) -> None:
        self.read += chunk
        self.begun.set()
        if self._pause is not None:
            await self._pause()


class Maker:
    """Makes `parts`, one each time `step` is set, and counts how often it was started."""

    def __init__(self, *parts: bytes, failed: str | None = None) -> None:
        self.parts = parts
        self.failed = failed
        self.started = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self, write: Write) -> str | None:
        self.started += 1
        try:
            for part in self.parts:
                await write(part)
                await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.failed


def test_only_what_is_asked_twice_within_a_minute_is_repeated(
    responses: Responses, clock: ManualClock
) -> None:
    assert not responses.is_repeated("a")
    clock.advance(59)
    assert responses.is_repeated("a")
    clock.advance(61)
    assert not responses.is_repeated("a")
    assert not responses.is_repeated("b")


def test_a_herd_is_served_by_one_maker(responses: Responses) -> None:
    async def herd() -> tuple[Maker, list[Reader]]:
        make, readers = Maker(b"one", b"two", b"three"), [Reader() for _ in range(20)]
        serving = [asyncio.create_task(responses.serve("k", make, each.write)) for each in readers]
        await asyncio.gather(*(each.begun.wait() for each in readers))
        make.go.set()
        assert await asyncio.gather(*serving) == [None] * 20
        late = Reader()
        assert await responses.serve("k", make, late.write) is None
        return make, [*readers, late]

    make, readers = asyncio.run(herd())
    assert make.started == 1
    assert {each.read for each in readers} == {b"onetwothree"}


def test_a_slow_reader_holds_nobody_back(responses: Responses) -> None:
    async def both() -> None:
        stuck, make = asyncio.Event(), Maker(b"x" * 10)
        make.go.set()
        slow, quick = Reader(stuck.wait), Reader()
        waiting = asyncio.create_task(responses.serve("k", make, slow.write))
        assert await responses.serve("k", make, quick.write) is None
        assert not waiting.done()
        stuck.set()
        assert await waiting is None
        assert slow.read == quick.read == b"x" * 10

    asyncio.run(both())


@pytest.mark.parametrize("parts", [(), (b"some",)])
def test_a_failure_is_told_to_every_reader_and_not_kept(
    responses: Responses, parts: tuple[bytes, ...]
) -> None:
    async def fail() -> None:
        make = Maker(*parts, failed="git ended with 128")
        make.go.set()
        assert await responses.serve("k", make, Reader().write) == "git ended with 128"
        make.failed = None
        again = Reader()
        assert await responses.serve("k", make, again.write) is None
        assert again.read == b"".join(parts)
        assert make.started == 2

    asyncio.run(fail())


def test_a_known_error_of_the_maker_is_a_reason(responses: Responses) -> None:
    async def make(_write: Write) -> str | None:
        raise Unavailable("too many fetches at once")

    async def ask() -> str | None:
        return await responses.serve("k", make, Reader().write)

    assert asyncio.run(ask()) == "too many fetches at once"


def test_when_the_last_reader_leaves_the_making_ends(responses: Responses) -> None:
    async def leave() -> None:
        make, reader = Maker(b"one"), Reader()
        serving = asyncio.create_task(responses.serve("k", make, reader.write))
        await reader.begun.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        make.go.set()
        after = Reader()
        assert await responses.serve("k", make, after.write) is None
        assert (after.read, make.cancelled, make.started) == (b"one", 1, 2)

    asyncio.run(leave())


def test_the_oldest_answers_make_room(responses: Responses, tmp_path: Path) -> None:
    async def fill() -> list[int]:
        makers = []
        for name in ("a", "b", "c", "a"):
            make = Maker(name.encode() * 600)
            make.go.set()
            await responses.serve(name, make, Reader().write)
            makers.append(make.started)
        return makers

    assert asyncio.run(fill()) == [1, 1, 1, 1], "the first was forgotten and made again"
    files = [path for path in (tmp_path / "responses").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 1000
    responses.close()
    assert not [path for path in (tmp_path / "responses").rglob("*") if path.is_file()]


def test_the_files_may_be_deleted_at_any_time(responses: Responses, tmp_path: Path) -> None:
    async def lose() -> None:
        make = Maker(b"answer")
        make.go.set()
        await responses.serve("k", make, Reader().write)
        shutil.rmtree(tmp_path / "responses")
        kept, fresh = Reader(), Reader()
        assert await responses.serve("k", make, kept.write) is None
        assert await responses.serve("other", make, fresh.write) is None
        assert kept.read == fresh.read == b"answer"

    asyncio.run(lose())


def open_files_below(directory: Path) -> int:
    """How many files there this process has open, deleted ones included."""
    links = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(str(link.readlink()).startswith(str(directory)) for link in links)


@pytest.mark.parametrize("failed", ["git ended with 128", None])
def test_an_answer_that_failed_leaves_no_open_file(
    responses: Responses, tmp_path: Path, failed: str | None
) -> None:
    """Made in vain by git, or given up because its last reader left."""

    async def fail_again_and_again() -> None:
        for _ in range(5):
            make, reader = Maker(b"some", failed=failed), Reader()
            serving = asyncio.create_task(responses.serve("k", make, reader.write))
            await reader.begun.wait()
            if failed:
                make.go.set()
            else:
                serving.cancel()
            await asyncio.wait([serving])

    asyncio.run(fail_again_and_again())
    assert open_files_below(tmp_path) == 0


def test_however_small_the_answers_are_only_so_many_are_kept(tmp_path: Path, clock: ManualClock) -> None:
    responses = Responses(tmp_path / "responses", size_bytes_max=1 << 30, clock=clock)

    async def many() -> None:
        for number in range(300):
            make = Maker(b"x")
            make.go.set()
            assert await responses.serve(f"k{number}", make, Reader().write) is None

    asyncio.run(many())
    assert open_files_below(tmp_path) == 256
    responses.close()
    assert open_files_below(tmp_path) == 0


def test_a_disk_that_takes_no_answer_is_a_reason(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "responses").mkdir()
    responses = Responses(tmp_path / "responses", size_bytes_max=1000, clock=clock)
    (tmp_path / "responses" / str(os.getpid())).write_bytes(b"in the way")

    async def ask() -> str | None:
        return await responses.serve("k", Maker(b"answer"), Reader().write)

    said = asyncio.run(ask())
    assert said is not None
    assert said.startswith("no answer can be kept")


def test_no_part_of_a_key_runs_into_the_next() -> None:
    assert key_of(b"ab", b"c") != key_of(b"a", b"bc")
    assert key_of(b"ab", b"c") == key_of(b"ab", b"c")
