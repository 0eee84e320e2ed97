"""Born from the nursery or executed: a process finds the same, and its supervisor sees the same of it."""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mainstay.boot.nursery import PR_SET_CHILD_SUBREAPER, NoBirth, Nursery, reap_strangers
from mainstay.boot.process import Born, Program, Running
from mainstay.foundation.clock import SYSTEM
from support.servers import wait_until

_S_MAX = 60
NEWBORN = "support.newborn"
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    data = tmp_path_factory.mktemp("data")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTAY_")}
    return {**ours, "PYTHONPATH": str(TESTS), "MAINSTAY_DATA": str(data), "MAINSTAY_OF_THE_NURSERY": "1"}


@pytest.fixture(scope="module", autouse=True)
def _orphans_go_to_init_again() -> Iterator[None]:
    """A supervisor adopts orphans for good; this process has other tests to do."""
    yield
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture(scope="module")
def nursery(environment: dict[str, str]) -> Iterator[Nursery]:
    nursery = Nursery([NEWBORN], environment)
    yield nursery
    nursery.close()


def born(nursery: Nursery, environment: dict[str, str], **more: str) -> tuple[Born, dict[str, Any]]:
    """A process that has said what it found."""
    ours, theirs = os.pipe()
    asked = {**environment, **{f"MAINSTAY_{name}": value for name, value in more.items()}}
    try:
        process = Born(nursery.bear(NEWBORN, asked, {"OUT_FD": theirs}))
    finally:
        os.close(theirs)
    with os.fdopen(ours) as said:
        return process, json.loads(said.read())


def code_of(process: Born) -> int:
    wait_until(lambda: process.poll() is not None, timeout_s=_S_MAX, what="its end")
    code = process.poll()
    assert code is not None
    return code


def test_it_finds_what_a_fresh_process_would(nursery: Nursery, environment: dict[str, str]) -> None:
    asked = {name: value for name, value in environment.items() if name != "MAINSTAY_OF_THE_NURSERY"}
    process, found = born(nursery, asked, SECRET_KEY="s3cret", CODE="7")
    assert found["pid"] == process.pid != nursery.pid
    assert found["parent"] == os.getpid(), "the supervisor has adopted it"
    assert found["session"] == process.pid
    assert found["threads"] == 1
    assert found["environment"]["MAINSTAY_SECRET_KEY"] == "s3cret"
    assert "MAINSTAY_OF_THE_NURSERY" not in found["environment"]
    assert code_of(process) == 7


def test_it_has_imported_nothing_itself(nursery: Nursery, environment: dict[str, str]) -> None:
    process, found = born(nursery, environment)
    assert found["imported_by"] == nursery.pid
    assert found["was_set_up"]
    assert code_of(process) == 0


def test_the_secret_key_is_its_own_and_not_that_of_the_nursery(
    nursery: Nursery, environment: dict[str, str]
) -> None:
    first, said_first = born(nursery, environment, SECRET_KEY="one")
    second, said_second = born(nursery, environment, SECRET_KEY="two")
    assert (said_first["secret_key"], said_second["secret_key"]) == ("one", "two")
    assert (code_of(first), code_of(second)) == (0, 0)


def test_no_descriptor_of_the_nursery_or_of_a_sister_is_open(
    nursery: Nursery, environment: dict[str, str]
) -> None:
    first, said_first = born(nursery, environment, THEN="stay")
    second, said_second = born(nursery, environment)
    assert len(said_second["open"]) == len(said_first["open"])
    first.send_signal(signal.SIGKILL)
    assert code_of(first) == -signal.SIGKILL
    assert code_of(second) == 0


def test_what_was_born_outlives_the_nursery_and_the_next_is_refused(environment: dict[str, str]) -> None:
    nursery = Nursery([NEWBORN], environment)
    process, _ = born(nursery, environment, THEN="stay")
    os.kill(nursery.pid, signal.SIGKILL)
    wait_until(lambda: nursery.has_ended, timeout_s=_S_MAX, what="the end of the nursery")
    assert process.poll() is None
    with pytest.raises(NoBirth):
        nursery.bear(NEWBORN, environment, {})
    nursery.close()
    process.send_signal(signal.SIGTERM)
    assert code_of(process) == -signal.SIGTERM


_BEARS_FOR_THE_DEAD = """\
import os, socket, subprocess, sys
from mainstay.boot import nursery
dead = subprocess.Popen([sys.executable, "-c", ""])
dead.wait()
line, _ = socket.socketpair()
assert not nursery._is_newborn(line, dead.pid)
"""


def test_a_newborn_whose_supervisor_has_died_ends_at_once_with_the_sockets_it_was_given() -> None:
    ours, theirs = os.pipe()
    subprocess.run([sys.executable, "-c", _BEARS_FOR_THE_DEAD], pass_fds=[theirs], check=True)
    os.close(theirs)
    with os.fdopen(ours) as held:
        assert select.select([held], [], [], 5)[0], "somebody still has it"
        assert held.read() == ""


def test_a_nursery_that_cannot_import_bears_nobody(environment: dict[str, str]) -> None:
    nursery = Nursery(["no.such.module"], environment)
    with pytest.raises(NoBirth, match=r"has ended|does not answer"):
        nursery.bear(NEWBORN, environment, {})
    nursery.close()


@pytest.mark.parametrize("with_nursery", [True, False])
def test_the_supervisor_hears_the_same_of_both(
    nursery: Nursery, environment: dict[str, str], with_nursery: bool
) -> None:
    ours, theirs = os.pipe()
    program = Program(name="newborn", module=NEWBORN, inherits={"OUT_FD": theirs})
    asked = {**environment, "MAINSTAY_CODE": "3"}
    if not with_nursery:
        program = Program(name="newborn", module="support.newborn_alone", inherits={"OUT_FD": theirs})
    running = Running(program, asked, SYSTEM, nursery=nursery if with_nursery else None)
    os.close(theirs)
    with os.fdopen(ours) as said:
        found = json.loads(said.read())
    assert found["environment"]["MAINSTAY_PROCESS"] == "newborn"
    assert found["environment"]["MAINSTAY_PARENT_PID"] == str(os.getpid())
    assert found["session"] == running.pid
    wait_until(lambda: running.exit_code() is not None, timeout_s=_S_MAX, what="its end")
    assert running.exit_code() == 3
    running.hear()
    assert not running.ready
    running.forget()


def test_orphans_are_reaped_and_nobody_elses_children(nursery: Nursery) -> None:
    ours = subprocess.Popen([sys.executable, "-c", "pass"])
    orphan = subprocess.run(
        ["sh", "-c", "sleep 0.05 >/dev/null & echo $!"], capture_output=True, text=True, check=True
    )
    pid = int(orphan.stdout)

    def is_gone() -> bool:
        reap_strangers([nursery.pid, ours.pid])
        return ours.poll() is not None and not Path(f"/proc/{pid}").exists()

    wait_until(is_gone, timeout_s=_S_MAX, what="the orphan is reaped")
    assert ours.returncode == 0
