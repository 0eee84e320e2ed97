"""Where the real programs are: in PATH, where Debian puts them, or unpacked beside the source."""

import os
import shutil
from pathlib import Path

from mainstay.foundation.errors import NotFound

_BESIDE_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
_INSTALL = "`make servers` as root on Debian installs it"
_UNPACKED = Path(__file__).parents[3] / ".servers" / "rgw"
"""Only there when this runs from a checkout."""


class ProgramMissing(NotFound):
    """A real program that the stack stands on is not on this machine."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"{program} is not installed (Debian package {package}); {_INSTALL}")
        self.program = program


def find(program: str, *, package: str) -> str:
    """The path of a program. Raises `ProgramMissing`."""
    path = os.pathsep.join([*os.get_exec_path(), *_BESIDE_PATH])
    if found := shutil.which(program, path=path):
        return found
    raise ProgramMissing(program, package)


def find_first(*programs: str, package: str) -> str:
    """The first of several programs that do the same, such as valkey-server and redis-server."""
    for program in programs[:-1]:
        try:
            return find(program, package=package)
        except ProgramMissing:
            continue
    return find(programs[-1], package=package)


def rgw_root() -> Path:
    """The directory that has Ceph's `usr/bin/radosgw`: the unpacked one, or the system's."""
    for root in (_UNPACKED, Path("/")):
        if all((root / "usr" / "bin" / each).exists() for each in ("radosgw", "ceph-mon", "ceph-osd")):
            return root
    raise ProgramMissing("radosgw", "radosgw, ceph-mon and ceph-osd")
