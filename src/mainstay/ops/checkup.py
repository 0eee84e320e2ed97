"""Look at a machine and say what is wrong with it for a node. Pure judgements, and the looks beside them."""

import os
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mainstay.foundation.errors import MainstayError
from mainstay.git.native.version import git_version, require_git

Verdict = Literal["ok", "warning", "failed"]

_GIB = 1024**3
_FREE_LEAST_BYTES = 1 * _GIB
_FREE_WANTED_BYTES = 5 * _GIB
_FILES_WANTED = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    says: str
    """What was seen, and what to do when it is not well."""


def judge_free_space(directory: Path, free_bytes: int) -> Finding:
    says = f"{free_bytes / _GIB:.1f} GiB free in {directory}"
    if free_bytes < _FREE_LEAST_BYTES:
        return Finding("disk", "failed", f"{says}; pushes will fail soon, make room")
    if free_bytes < _FREE_WANTED_BYTES:
        return Finding("disk", "warning", f"{says}; make room before it is needed")
    return Finding("disk", "ok", says)


def judge_open_files(limit: int) -> Finding:
    if limit != resource.RLIM_INFINITY and limit < _FILES_WANTED:
        says = f"a process may open {limit} files; raise it to {_FILES_WANTED} (LimitNOFILE, ulimit -n)"
        return Finding("open files", "warning", says)
    return Finding("open files", "ok", f"a process may open {limit} files")


def judge_directory(directory: Path, *, exists: bool, is_writable: bool, mode: int) -> Finding:
    if not exists:
        return Finding(
            "data directory", "warning", f"{directory} is not there yet; `mainstay serve` makes it"
        )
    if not is_writable:
        return Finding("data directory", "failed", f"{directory} cannot be written to by this user")
    if mode & 0o077:
        return Finding("data directory", "warning", f"others can look into {directory}; chmod 700 it")
    return Finding("data directory", "ok", str(directory))


def look_at_machine(data: Path) -> list[Finding]:
    """Everything that can be seen without the stores."""
    exists = data.is_dir()
    nearest = next(parent for parent in [data, *data.parents] if parent.is_dir())
    return [
        Finding("python", "ok", sys.version.split()[0]),
        _look_at_git(),
        judge_directory(
            data,
            exists=exists,
            is_writable=os.access(nearest, os.W_OK),
            mode=data.stat().st_mode if exists else 0o700,
        ),
        judge_free_space(nearest, shutil.disk_usage(nearest).free),
        judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    ]


def _look_at_git() -> Finding:
    try:
        require_git()
    except MainstayError as error:
        return Finding("git", "failed", str(error))
    return Finding("git", "ok", ".".join(map(str, git_version())))
