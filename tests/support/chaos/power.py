"""A disk that can lose power: what was not synced is gone, as ext4 would leave it.

An ext4 file system in a file in memory. Between a program and that file is the kernel's page cache, so the
file holds exactly what was synced, and what the kernel happened to write back. `lose_power` stops the file
system from writing anything more, takes the file as it is and lets ext4 recover from it.

What it cannot show is a drive that lies about its own cache. Needs root and loop devices: see `why_not`.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from mainstay.foundation.ids import new_ulid

_MEMORY = Path("/dev/shm")
_PROGRAMS = ("mkfs.ext4", "e2fsck", "losetup", "mount", "umount")
_COMMAND_S_MAX = 60
_ERRORS_CORRECTED = 1


def why_not() -> str:
    """Empty when such disks can be made here."""
    if os.geteuid() != 0:
        return "a disk of one's own needs root"
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"a disk of one's own needs {', '.join(missing)}"
    if not Path("/dev/loop-control").exists() or not _MEMORY.is_dir():
        return "no loop devices here"
    return ""


_RELEASED_S_MAX = 30.0


class Disk:
    """Mounted at `directory` while in use."""

    def __init__(self, directory: Path, *, size_mib: int = 256) -> None:
        self.directory = directory
        self._image = _MEMORY / f"mst{os.getpid()}-{new_ulid()}.ext4"
        self._size_mib = size_mib

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._size_mib << 20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", "--lazy", str(self.directory)], capture_output=True, check=False)
        self._image.unlink(missing_ok=True)

    def lose_power(self) -> None:
        """Everything that works on the disk must be dead when this is called: a machine has no survivors."""
        device = Path(_device_of(self.directory)).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("power\n")
        left = self._image.with_suffix(".left")
        _run("cp", "--sparse=always", str(self._image), str(left))
        self._unmount()
        left.replace(self._image)
        checked = subprocess.run(
            ["e2fsck", "-f", "-y", str(self._image)], capture_output=True, text=True, check=False
        )
        assert checked.returncode <= _ERRORS_CORRECTED, checked.stdout + checked.stderr
        self._mount()

    def _unmount(self) -> None:
        """The dead hold it for a moment, on a machine that is busy."""
        until_s = time.monotonic() + _RELEASED_S_MAX
        while subprocess.run(["umount", str(self.directory)], capture_output=True, check=False).returncode:
            assert time.monotonic() < until_s, f"{self.directory} is still in use"
            time.sleep(0.1)

    def _mount(self) -> None:
        # Nothing is written before somebody syncs: the rounds of the kernel would hide what was forgotten.
        _run("mount", "-o", "loop,errors=remount-ro,commit=3600", str(self._image), str(self.directory))


def _device_of(directory: Path) -> str:
    for line in Path("/proc/mounts").read_text().splitlines():
        device, where, *_ = line.split()
        if where == str(directory):
            return device
    raise AssertionError(f"{directory} is not mounted")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S_MAX, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
