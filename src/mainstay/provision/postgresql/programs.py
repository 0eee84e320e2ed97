"""PostgreSQL's programs on this machine: where Debian, PGDG and Red Hat put them, or in PATH.

A data directory belongs to one major version, so programs are asked for by it, and the sentence of an error
names the package that has them.
"""

import shutil
from pathlib import Path

from mainstay.foundation.errors import NotFound

_PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")
"""Debian and its PGDG packages; PGDG on Red Hat; Homebrew."""
_NEEDED = ("postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata")
OLDEST = 14
"""What is written here was not tried with an older one."""


class PostgresqlMissing(NotFound):
    """The programs of PostgreSQL are not on this machine, or not those of the wanted version."""

    def __init__(self, wanted: int | None, found: list[int]) -> None:
        version = str(wanted or "")
        name = f"PostgreSQL {version}".strip()
        there = f"; installed: {', '.join(map(str, found))}" if found else ""
        super().__init__(
            f"{name} is not installed{there}: install the package {_debian(version)} (Debian, Ubuntu) or"
            f" {_red_hat(version)} (Red Hat and its like)"
        )
        self.wanted = wanted


def _debian(version: str) -> str:
    return f"postgresql-{version}" if version else "postgresql"


def _red_hat(version: str) -> str:
    return f"postgresql{version}-server and postgresql{version}-contrib" if version else "postgresql-server"


def installed(root: Path = Path("/")) -> dict[int, Path]:
    """The directories of complete sets of programs, by major version, the newest first."""
    found: dict[int, Path] = {}
    for place in [*(each for pattern in _PLACES for each in root.glob(pattern)), *_on_path()]:
        version = _version(place)
        if version and all((place / each).exists() for each in _NEEDED):
            found.setdefault(version, place)
    return dict(sorted(found.items(), reverse=True))


def postgresql_programs(major: int | None = None) -> Path:
    """Where `postgres` and its kin are, of that version or the newest. Raises `PostgresqlMissing`."""
    found = installed()
    if major is None:
        usable = [version for version in found if version >= OLDEST]
        if usable:
            return found[usable[0]]
    elif major in found:
        return found[major]
    raise PostgresqlMissing(major, list(found))


def _on_path() -> list[Path]:
    found = shutil.which("postgres") or shutil.which("initdb")
    return [Path(found).resolve().parent] if found else []


def _version(place: Path) -> int:
    """The major version: by the name of the directory, or by what the header beside it says."""
    digits = "".join(each for each in place.parent.name if each.isdigit())
    if digits:
        return int(digits)
    return _version_said(place)


def _version_said(place: Path) -> int:
    """Red Hat's own packages have no version in their path; the share directory of each has one in a file."""
    for share in (place.parent / "share" / "pgsql", place.parent / "share" / "postgresql"):
        sample = share / "postgres.bki"
        try:
            with sample.open(encoding="utf-8", errors="replace") as lines:
                first = lines.readline(200)  # "# PostgreSQL 16"
        except OSError:
            continue
        digits = "".join(each for each in first if each.isdigit())
        if digits:
            return int(digits)
    return 0
