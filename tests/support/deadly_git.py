"""A git that is killed at a chosen moment, as the kernel does when memory is short.

It stands before the real one on PATH. What it is told to spare, and what it was not told of, is real git.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mainstay.git.native.place import git_program

MOMENTS = {
    "at once": "kill -9 $$",
    "while it reads": "head -c 30000 >/dev/null; kill -9 $$",
    "while it writes": '"$git" "$@" | dd bs=1 count=30000 status=none; kill -9 $$',
    "when it is done": '"$git" "$@"; kill -9 $$',
}
_SCRIPT = """#!/bin/sh
git={git}
case "$*" in
"{victim}"*) if {asked} "{life}" 2>/dev/null; then {deed}; fi;;
esac
exec "$git" "$@"
"""


@contextmanager
def deadly_git(directory: Path, victim: str, moment: str, *, once: bool = False) -> Iterator[None]:
    """For the length of the block, git commands that begin with `victim` die at that moment, or the first."""
    real = shutil.which("git")
    directory.mkdir()
    life = directory / "life"
    life.touch()
    program = directory / "git"
    asked = "rm" if once else "test -e"
    program.write_text(_SCRIPT.format(git=real, victim=victim, asked=asked, life=life, deed=MOMENTS[moment]))
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(directory), prepend=":")
        git_program.cache_clear()
        try:
            yield
        finally:
            git_program.cache_clear()
