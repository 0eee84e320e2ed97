"""Git processes: alone with what we give them, within limits, and gone when they are not needed."""

import asyncio
import gc
import hashlib
import io
import os
import signal
import stat
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from mainstay.git.native import place as places
from mainstay.git.native import version
from mainstay.git.native.commands import COMMANDS
from mainstay.git.native.place import GitMissing, environment_of
from mainstay.git.native.run import (
    GitFailed,
    GitNotStarted,
    GitPlace,
    GitProcess,
    GitTookTooLong,
    GitWroteTooMuch,
    Limits,
    feed,
    run,
    start,
    stop,
)
from mainstay.git.objectnames import ZERO_OID
from mainstay.git.protocol.pktline import FLUSH, encode
from support.native_git import EMPTY_PACK, bare_repository, commit, set_refs, stored

Scene = Callable[[GitPlace], Awaitable[None]]


@pytest.fixture
def place(tmp_path: Path) -> GitPlace:
    return bare_repository(tmp_path / "repository.git")


def test_output_and_errors_are_collected(place: GitPlace) -> None:
    blob = stored(place, "blob", b"x" * 3_000_000)
    answer = run(place, ["cat-file", "--batch"], stdin=f"{blob}\n{ZERO_OID}\n".encode())
    assert (
        answer.stdout
        == f"{blob} blob 3000000\n".encode() + b"x" * 3_000_000 + f"\n{ZERO_OID} missing\n".encode()
    )
    assert (answer.exit_code, answer.stderr) == (0, b"")


def test_input_may_come_from_a_file(place: GitPlace) -> None:
    content = os.urandom(2_000_000)
    from_file = run(place, ["hash-object", "--stdin"], stdin=io.BytesIO(content)).stdout
    assert from_file == run(place, ["hash-object", "--stdin"], stdin=content).stdout


def test_a_failure_says_what_git_said(place: GitPlace) -> None:
    with pytest.raises(GitFailed, match=r"git cat-file -t 0{40} ended with 128: fatal: .*") as caught:
        run(place, ["cat-file", "-t", ZERO_OID])
    assert (caught.value.exit_code, caught.value.stderr[:6]) == (128, b"fatal:")
    assert run(place, ["cat-file", "-e", ZERO_OID], check=False).exit_code == 1


def test_a_git_that_reads_no_further_is_no_error_of_ours(place: GitPlace) -> None:
    answer = run(place, ["index-pack", "--stdin"], stdin=b"not a pack" * 1_000_000, check=False)
    assert answer.exit_code == 128
    assert b"pack signature mismatch" in answer.stderr


def test_nothing_is_inherited(place: GitPlace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[core]\n\trepositoryFormatVersion = 99\n[init]\n\tnonsense\n")
    for name in ("GIT_OBJECT_DIRECTORY", "GIT_DIR", "GIT_NAMESPACE", "GIT_CONFIG_GLOBAL"):
        monkeypatch.setenv(name, str(tmp_path / ".gitconfig"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'broken")
    blob = stored(place, "blob", b"hello")
    assert (place.git_dir / "objects" / blob[:2] / blob[2:]).exists()


def test_the_environment_is_written_here(place: GitPlace) -> None:
    quarantine = GitPlace(git_dir=place.git_dir, objects=Path("/q"), alternates=[Path("/a"), Path('/b:"c')])
    seen = environment_of(quarantine, b"index-pack", config={"transfer.fsckObjects": "true"}, environment={})
    assert seen["GIT_DIR"] == str(place.git_dir)
    assert seen["GIT_OBJECT_DIRECTORY"] == "/q"
    assert seen["GIT_ALTERNATE_OBJECT_DIRECTORIES"] == '/a:"/b:\\"c"'
    assert (seen["HOME"], seen["GIT_CONFIG_GLOBAL"], seen["GIT_CONFIG_NOSYSTEM"]) == (
        "/nonexistent",
        "/dev/null",
        "1",
    )
    count = int(seen["GIT_CONFIG_COUNT"])
    config = {seen[f"GIT_CONFIG_KEY_{at}"]: seen[f"GIT_CONFIG_VALUE_{at}"] for at in range(count)}
    assert config["core.hooksPath"] == "/dev/null"
    assert config["core.bigFileThreshold"] == "1m"
    assert config["transfer.fsckObjects"] == "true"
    assert f"GIT_CONFIG_KEY_{count}" not in seen


@pytest.mark.parametrize(
    ("config", "environment"),
    [({"x": "1"}, {}), ({"a.b\nc": "1"}, {}), ({"a.b": "\0"}, {}), ({}, {"LD-X": "1"})],
)
def test_odd_configuration_is_a_mistake_of_the_program(
    place: GitPlace, config: dict[str, str], environment: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="not "):
        environment_of(place, b"log", config=config, environment=environment)


def test_objects_come_from_alternates_with_odd_names(tmp_path: Path) -> None:
    behind = bare_repository(tmp_path / 'a:"b\\c.git')
    blob = stored(behind, "blob", b"far away")
    front = bare_repository(tmp_path / "front.git")
    assert run(front, ["cat-file", "-e", blob], check=False).exit_code == 1
    both = GitPlace(git_dir=front.git_dir, alternates=[tmp_path, behind.git_dir / "objects"])
    assert run(both, ["cat-file", "blob", blob]).stdout == b"far away"


def test_a_quarantine_takes_what_is_written(place: GitPlace, tmp_path: Path) -> None:
    quarantined = GitPlace(
        git_dir=place.git_dir, objects=tmp_path / "q", alternates=[place.git_dir / "objects"]
    )
    (tmp_path / "q").mkdir()
    blob = stored(quarantined, "blob", b"new")
    assert run(quarantined, ["cat-file", "-e", blob], check=False).exit_code == 0
    assert run(place, ["cat-file", "-e", blob], check=False).exit_code == 1


def test_planted_hooks_never_run(place: GitPlace, tmp_path: Path) -> None:
    tip = commit(place)
    hooks = place.git_dir / "hooks"
    hooks.mkdir()
    with (place.git_dir / "config").open("a") as config:
        config.write(f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = {hooks}/update\n[gc]\n\tauto = 1\n")
    for name in (
        "pre-receive",
        "update",
        "post-receive",
        "post-update",
        "reference-transaction",
        "pre-auto-gc",
    ):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-$(basename $0)\nexit 1\n")
        (hooks / name).chmod(stat.S_IRWXU)
    request = encode(f"{ZERO_OID} {tip} refs/heads/x\0report-status".encode()) + FLUSH
    answer = run(place, ["receive-pack", "--stateless-rpc", str(place.git_dir)], stdin=request + EMPTY_PACK)
    assert b"ok refs/heads/x" in answer.stdout
    assert list(tmp_path.glob("ran-*")) == []


@pytest.mark.parametrize("command", sorted(name for name, known in COMMANDS.items() if known.end_of_options))
@pytest.mark.parametrize(
    "option", ["--output={}", "--exec=touch {}", "-o{}", "--open-files-in-pager=touch {}"]
)
def test_nothing_after_the_options_is_an_option(
    place: GitPlace, tmp_path: Path, command: bytes, option: str
) -> None:
    set_refs(place, {b"refs/heads/main": commit(place)})
    hostile = option.format(tmp_path / "written")
    run(place, [command, "--end-of-options", hostile], check=False, limits=Limits(wall_s_max=20))
    assert list(tmp_path.iterdir()) == [place.git_dir] or command == b"init"
    assert not (tmp_path / "written").exists()


def test_replace_refs_replace_nothing(place: GitPlace) -> None:
    true, false = commit(place, message="true"), commit(place, message="false")
    set_refs(place, {b"refs/replace/" + true.encode(): false})
    assert b"\ntrue\n" in run(place, ["cat-file", "commit", true]).stdout


def test_memory_is_limited(place: GitPlace) -> None:
    huge = commit(place, message="x" * 60_000_000)
    assert len(run(place, ["cat-file", "commit", huge]).stdout) > 60_000_000
    with pytest.raises(GitFailed, match=r"(?i)out of memory|mmap|malloc"):
        run(place, ["cat-file", "--batch"], stdin=huge.encode(), limits=Limits(data_bytes_max=30_000_000))


def test_a_blob_that_unpacks_to_much_is_not_held_in_memory(place: GitPlace, tmp_path: Path) -> None:
    """100 MB of zeros are a pack of 100 kB; git without our configuration inflates them in memory."""
    blob = b"\0" * 100_000_000
    size, more = b"", len(blob) >> 4
    while more:
        size, more = size + bytes([more & 0x7F | (0x80 if more > 0x7F else 0)]), more >> 7
    body = b"PACK\0\0\0\2\0\0\0\1" + bytes([0x80 | 3 << 4 | len(blob) & 15]) + size + zlib.compress(blob, 1)
    pack = body + hashlib.sha1(body, usedforsecurity=False).digest()
    limits = Limits(data_bytes_max=48_000_000)
    assert b"pack\t" in run(place, ["index-pack", "--stdin", "--strict"], stdin=pack, limits=limits).stdout
    with pytest.raises(GitFailed, match="memory"):
        run(
            GitPlace(git_dir=bare_repository(tmp_path / "other.git").git_dir),
            ["index-pack", "--stdin", "--strict"],
            stdin=pack,
            limits=limits,
            config={"core.bigFileThreshold": "512m"},
        )


def test_output_is_limited(place: GitPlace) -> None:
    blob = stored(place, "blob", b"x" * 1_000_000)
    with pytest.raises(GitWroteTooMuch, match="wrote too much"):
        run(place, ["cat-file", "blob", blob], limits=Limits(output_bytes_max=999_999))
    assert (
        len(run(place, ["cat-file", "blob", blob], limits=Limits(output_bytes_max=1_000_000)).stdout)
        == 1_000_000
    )


def test_time_is_limited(place: GitPlace) -> None:
    with pytest.raises(GitTookTooLong, match="took too long"):
        run(place, ["cat-file", "--batch"], limits=Limits(wall_s_max=0.0))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_process_stays_when_the_input_breaks(place: GitPlace, error: type[BaseException]) -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise error

    before = set(children())
    with pytest.raises(error):
        run(place, ["cat-file", "--batch"], stdin=Broken())
    assert set(children()) <= before


def children() -> list[int]:
    """The processes whose parent is this one, zombies included."""
    mine = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            mine.append(int(entry.parent.name))
    return mine


def members_of_session(leader: int) -> list[int]:
    """The processes, not zombies, of the session that `leader` began."""
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            members.append(int(entry.parent.name))
    return members


async def wait_until_alone(leader: int) -> None:
    async with asyncio.timeout(10):
        while members_of_session(leader):  # noqa: ASYNC110 - another process's end fires no event of ours
            await asyncio.sleep(0.01)


def data_limits(pid: int) -> list[str]:
    """The soft and hard limit of private memory of a process."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (data,) = [line.split() for line in lines if line.startswith("Max data size")]
    return data[3:5]


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, place: GitPlace) -> Callable[[Scene], None]:
    """Run a scene in an event loop of each kind, and check that it left no process behind."""

    def played(scene: Scene) -> None:
        before = set(children())
        runner = asyncio.run if request.param == "asyncio" else uvloop.run
        runner(asyncio.wait_for(scene(place), 60))  # type: ignore[arg-type]
        assert set(children()) <= before

    return played


def test_a_streamed_process_answers_and_ends(play: Callable[[Scene], None]) -> None:
    async def scene(place: GitPlace) -> None:
        blob = stored(place, "blob", b"hello")
        process = await start(place, ["cat-file", "--batch"])
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(blob.encode() + b"\n")
        assert await process.stdout.readline() == blob.encode() + b" blob 5\n"
        process.stdin.close()
        assert await process.stdout.read() == b"hello\n"
        assert await process.wait() == 0
        await stop(process)
        await stop(process)
        assert not process.timed_out

    play(scene)


def test_stop_ends_a_process_that_waits(play: Callable[[Scene], None]) -> None:
    async def scene(place: GitPlace) -> None:
        process = await start(place, ["cat-file", "--batch"])
        await stop(process)
        assert process.returncode in (-15, 0)

    play(scene)


def test_stop_ends_a_process_whose_output_nobody_reads(play: Callable[[Scene], None]) -> None:
    async def scene(place: GitPlace) -> None:
        blob = stored(place, "blob", os.urandom(8_000_000))
        process = await start(place, ["cat-file", "blob", blob])
        assert process.stdout is not None
        assert await process.stdout.read(10)
        await stop(process)
        assert process.returncode is not None

    play(scene)


def test_stop_ends_the_children_too(play: Callable[[Scene], None]) -> None:
    async def scene(place: GitPlace) -> None:
        tip = commit(place, content=os.urandom(20_000_000))
        set_refs(place, {b"refs/heads/main": tip})
        process = await start(place, ["upload-pack", "--stateless-rpc", str(place.git_dir)])
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(encode(f"want {tip} side-band-64k\n".encode()) + FLUSH + encode(b"done\n"))
        assert await process.stdout.readexactly(100_000)
        assert len(members_of_session(process.pid)) > 1
        await stop(process)
        await wait_until_alone(process.pid)

    play(scene)


def test_a_process_over_its_time_is_killed(play: Callable[[Scene], None]) -> None:
    async def scene(place: GitPlace) -> None:
        process = await start(place, ["cat-file", "--batch"], limits=Limits(wall_s_max=0.05))
        assert process.stdout is not None
        assert await process.stdout.read() == b""
        assert await process.wait() == -9
        assert process.timed_out
        await stop(process)

    play(scene)


def test_a_cancelled_stop_leaves_nothing(play: Callable[[Scene], None]) -> None:
    async def scene(place: GitPlace) -> None:
        process = await start(place, ["cat-file", "--batch"])
        stopping = asyncio.create_task(stop(process))
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await wait_until_ended(process)

    play(scene)


def test_a_process_that_is_killed_takes_no_more(
    play: Callable[[Scene], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Whenever it is noticed: in the middle of a large piece, or between two."""

    async def scene(place: GitPlace) -> None:
        for size_bytes in (100, 8_000_000):
            process = await start(place, ["hash-object", "--stdin"])
            assert await feed(process, b"beginning")
            os.kill(process.pid, signal.SIGKILL)
            while await feed(process, b"x" * size_bytes):  # noqa: ASYNC110 - the end of it fires no event
                await asyncio.sleep(0)
            assert not await feed(process, b"more")
            assert await process.wait() == -9
            await stop(process)

    play(scene)
    gc.collect()
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_a_machine_that_starts_no_process_is_told_as_that(
    play: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainstay.git.native.run.git_program", lambda: "/nonexistent/git")

    async def scene(place: GitPlace) -> None:
        with pytest.raises(GitNotStarted, match="git cannot be started now: No such file"):
            run(place, ["version"])
        with pytest.raises(GitNotStarted):
            await start(place, ["version"])

    play(scene)


async def wait_until_ended(process: GitProcess) -> None:
    assert await process.wait() != 0


def test_the_limits_hold_for_streamed_processes(play: Callable[[Scene], None]) -> None:
    async def scene(place: GitPlace) -> None:
        process = await start(place, ["cat-file", "--batch"], limits=Limits(data_bytes_max=77_000_000))
        assert data_limits(process.pid) == ["77000000", "unlimited"]
        await stop(process)

    play(scene)


def test_this_git_will_do() -> None:
    assert version.git_version() >= version.GIT_VERSION_MIN
    version.require_git()


def test_an_old_git_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "git_version", lambda: (2, 30, 2))
    with pytest.raises(GitMissing, match=r"git 2\.30\.2 is too old: install git 2\.39 or newer"):
        version.require_git()


def test_no_git_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    places.git_program.cache_clear()
    try:
        with pytest.raises(GitMissing, match="apt install git"):
            places.git_program()
    finally:
        places.git_program.cache_clear()
