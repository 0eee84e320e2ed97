"""Which git this machine has, and whether it will do."""

import functools
import re
from pathlib import Path

from mainstay.git.native.place import GitMissing, GitPlace
from mainstay.git.native.run import run

GIT_VERSION_MIN = (2, 39)
"""The first with everything we use: `cat-file --batch-command`, `merge-tree --write-tree`,
`pack-objects --stdin-packs` with unpacked bases, `ls-tree --format`."""

_VERSION = re.compile(rb"git version (\d+)\.(\d+)(?:\.(\d+))?")


@functools.cache
def git_version() -> tuple[int, int, int]:
    """The version of the git on PATH, such as (2, 39, 5). Raises `GitMissing`."""
    answer = run(GitPlace(git_dir=Path("/nonexistent")), ["version"]).stdout
    found = _VERSION.match(answer)
    if found is None:
        raise GitMissing(f"git did not tell its version but {answer[:80]!r}")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def require_git() -> None:
    """Raise `GitMissing`, saying what to install, unless a git that will do is on PATH."""
    version = git_version()
    if version[:2] < GIT_VERSION_MIN:
        needed = ".".join(map(str, GIT_VERSION_MIN))
        raise GitMissing(
            f"git {'.'.join(map(str, version))} is too old: install git {needed} or newer "
            f"(Debian 12 and Ubuntu 24.04 have it; elsewhere see https://git-scm.com/download)"
        )
