"""Programs of the operator's: what they are told, what they cannot do, and what is told of them."""

import os
import time
from pathlib import Path

import pytest

from mainstay.ops.traffic.announcing import Facts, announce
from mainstay.ops.traffic.choice import Traffic, problems_on_disk
from mainstay.provision.traffic.hooks import BadHook, problem_of, run_hook
from support.servers import wait_until

FACTS = Facts(epoch=7, site="paris", site_address="198.51.100.1", old_primary="berlin", is_planned=True)


def hook(directory: Path, text: str, *, mode: int = 0o755) -> Path:
    file = directory / "hook"
    file.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    file.chmod(mode)
    return file


def test_a_hook_is_told_the_facts_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTAY_HEALTH_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    told = tmp_path / "told"
    file = hook(tmp_path, f'env > {told}\npwd\nread line || echo "nothing to read"\necho done >&2')
    (outcome,) = announce("promote", FACTS, traffic=Traffic(on_promote=file))
    assert outcome.is_done
    assert outcome.exit_code == 0
    assert outcome.says == "ended with exit code 0: /\nnothing to read\ndone"
    environment = dict(line.split("=", 1) for line in told.read_text().splitlines())
    for name in ("PWD", "OLDPWD", "SHLVL", "_"):
        environment.pop(name, None)  # the shell's own
    assert environment == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "MAINSTAY_EVENT": "promote",
        "MAINSTAY_EPOCH": "7",
        "MAINSTAY_SITE": "paris",
        "MAINSTAY_SITE_ADDRESS": "198.51.100.1",
        "MAINSTAY_OLD_PRIMARY": "berlin",
        "MAINSTAY_OLD_PRIMARY_ADDRESS": "",
        "MAINSTAY_NEW_PRIMARY": "",
        "MAINSTAY_PLANNED": "yes",
    }


def test_each_event_has_its_hook(tmp_path: Path) -> None:
    traffic = Traffic(on_demote=hook(tmp_path, "echo $MAINSTAY_EVENT"))
    assert announce("promote", FACTS, traffic=traffic) == []
    (outcome,) = announce("demote", FACTS, traffic=traffic)
    assert outcome.says == "ended with exit code 0: demote"


@pytest.mark.parametrize(
    ("text", "says", "exit_code"),
    [
        ("echo no; exit 3", "ended with exit code 3: no", 3),
        ("kill -9 $$", "was killed by signal 9", -9),
    ],
)
def test_a_hook_that_fails_is_told_of_and_raises_nothing(
    tmp_path: Path, text: str, says: str, exit_code: int
) -> None:
    (outcome,) = announce("promote", FACTS, traffic=Traffic(on_promote=hook(tmp_path, text)))
    assert (outcome.is_done, outcome.says, outcome.exit_code) == (False, says, exit_code)


def test_a_slow_hook_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    file = hook(tmp_path, f"echo begun\nsleep 600 &\necho $! > {pid}\nwait")
    ended = run_hook(file, facts={}, limit_s=1)
    assert ended.was_too_slow
    assert ended.output == "begun"
    assert ended.took_ms < 20_000
    wait_until(lambda: not _lives(int(pid.read_text())), timeout_s=20, what="the end of what it started")
    (outcome,) = announce("promote", FACTS, traffic=Traffic(on_promote=file, hook_limit_s=1))
    assert outcome.says == "was ended, it took longer than 1 s: begun"


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z" not in stat.read_text()


def test_a_hook_that_ignores_its_end_is_killed(tmp_path: Path) -> None:
    ended = run_hook(hook(tmp_path, "trap '' TERM\nwhile :; do sleep 0.1; done"), facts={}, limit_s=0.5)
    assert (ended.was_too_slow, ended.exit_code) == (True, -9)


def test_a_service_that_a_hook_leaves_behind_is_not_waited_for(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began_s = time.monotonic()
    ended = run_hook(hook(tmp_path, f"sleep 300 &\necho $! > {pid}\necho started"), facts={}, limit_s=60)
    assert (ended.exit_code, ended.output, ended.was_too_slow) == (0, "started", False)
    assert time.monotonic() - began_s < 30
    os.kill(int(pid.read_text()), 9)


def test_much_output_is_cut_and_does_not_block(tmp_path: Path) -> None:
    ended = run_hook(hook(tmp_path, "head -c 3000000 /dev/zero | tr '\\0' x; exit 4"), facts={}, limit_s=60)
    assert (ended.exit_code, len(ended.output)) == (4, 16 * 1024)


def test_what_must_not_be_run_is_not(tmp_path: Path) -> None:
    fine = hook(tmp_path, "true")
    assert problem_of(fine) == ""
    for mode, said in ((0o757, "everybody can write to"), (0o644, "is not executable for this user")):
        fine.chmod(mode)
        assert said in problem_of(fine)
        with pytest.raises(BadHook, match=said):
            run_hook(fine, facts={}, limit_s=5)
    fine.chmod(0o755)
    tmp_path.chmod(0o777)
    assert "everybody can put another file in the place of" in problem_of(fine)
    tmp_path.chmod(0o700)
    assert "is not an absolute path" in problem_of(Path("hook"))
    assert "is not a file" in problem_of(tmp_path)
    gone = tmp_path / "gone"
    assert problems_on_disk(Traffic(on_promote=gone)) == [
        f"on_promote: cannot look at {gone}: No such file or directory"
    ]


def test_a_hook_that_cannot_start_stops_nothing(tmp_path: Path) -> None:
    file = hook(tmp_path, "#!/no/such/shell\n")
    (outcome,) = announce("promote", FACTS, traffic=Traffic(on_promote=file))
    assert not outcome.is_done
    assert outcome.says.startswith(f"was not run: {file} cannot be run: No such file")
    assert outcome.exit_code is None
