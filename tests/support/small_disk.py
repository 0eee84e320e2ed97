"""A small file system in memory, to be filled: so many bytes, so many names. Needs root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.servers import skip_missing


@contextmanager
def small_disk(directory: Path, *, size_kib: int, files: int = 10_000) -> Iterator[Path]:
    """Mounted at `directory` for the length of the block."""
    if os.geteuid() != 0:
        skip_missing("a disk of one's own", "run as root")
    directory.mkdir(parents=True, exist_ok=True)
    options = f"size={size_kib}k,nr_inodes={files}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "small", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        skip_missing("a disk of one's own", mounted.stderr.decode().strip())
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], capture_output=True, check=False)


def remount(directory: Path, *, writable: bool) -> None:
    mode = "rw" if writable else "ro"
    subprocess.run(["mount", "-o", f"remount,{mode}", str(directory)], check=True, capture_output=True)


def fill(directory: Path, name: str = "filling") -> Path:
    """Take all the room there is; delete the returned file to give it back."""
    filling = directory / name
    with filling.open("wb", buffering=0) as stream:
        for chunk in (b"x" * (1 << 16), b"x"):
            try:
                while True:
                    stream.write(chunk)
            except OSError:
                continue
    return filling
