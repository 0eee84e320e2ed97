"""What a demo notes about itself, so that others find it and the next one cleans up after a crash.

One small file, readable for its owner only, replaced whole: who controls, how to talk to him, which processes
run. Processes are ended by id and start time, so a later process with the same number is safe.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mainstay.foundation.errors import Conflict
from mainstay.provision import processes
from mainstay.provision.processes import Identity

_NOTES = "demo.json"
_LOCK = "demo.lock"


class NotOurs(Conflict):
    """The directory holds something that no demo put there."""


class AlreadyRuns(Conflict):
    """Another demo uses this directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """Of one run."""

    control_port: int
    token: str
    processes: Sequence[Identity] = field(default_factory=tuple)
    directories: Sequence[str] = field(default_factory=tuple)
    """Made outside the demo's own."""


def write_notes(directory: Path, notes: Notes) -> None:
    fresh = directory / f"{_NOTES}.new"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(asdict(notes), out)
    fresh.replace(directory / _NOTES)


def read_notes(directory: Path) -> Notes | None:
    """None when no demo runs or ran here."""
    try:
        facts = json.loads((directory / _NOTES).read_text())
    except FileNotFoundError:
        return None
    identities = tuple(Identity(**each) for each in facts.pop("processes"))
    return Notes(**facts, processes=identities)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the directory for one demo; the kernel lets go of it with us. Raises `AlreadyRuns`, `NotOurs`."""
    if directory.exists() and any(directory.iterdir()) and not (directory / _LOCK).exists():
        raise NotOurs(f"{directory} holds something else; name another place with --directory")
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRuns(
                f"a demo runs in {directory} already; `mainstay cluster demo stop` ends it"
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_held(directory: Path) -> bool:
    """Whether a demo runs there now."""
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def clean(directory: Path) -> int:
    """End what an earlier run left and remove its files. How many processes there were. Call it `held`."""
    notes = read_notes(directory)
    left = processes.family(notes.processes) if notes else []
    processes.kill(left)
    for each in notes.directories if notes else ():
        shutil.rmtree(each, ignore_errors=True)
    for entry in directory.iterdir():
        if entry.name == _LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return len(left)


def remove(directory: Path) -> None:
    """The directory itself, at the very end."""
    shutil.rmtree(directory, ignore_errors=True)
