"""Where a git process looks, how much it may use, and the world it sees.

A git process here sees none of the machine's or a user's configuration, no hooks, no terminal and no
replace refs: only what `GitPlace` and the call say.
"""

import functools
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mainstay.foundation.errors import Unavailable

MIB = 1024 * 1024


class GitMissing(Unavailable):
    """There is no usable git program on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitPlace:
    """Where a git process looks for refs and objects."""

    git_dir: Path
    """The bare repository: HEAD, refs, config."""
    objects: Path | None = None
    """Where objects are read and written instead of `git_dir/objects`: a quarantine."""
    alternates: Sequence[Path] = ()
    """More object directories to read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a git process may use. None means no limit."""

    data_bytes_max: int | None = 256 * MIB
    """Private writable memory (RLIMIT_DATA). Mapped packs do not count, so a big repository is no reason
    to raise it; a delta bomb is a reason to have it."""
    wall_s_max: float | None = 3600
    """Seconds after which the process and its children are killed."""
    output_bytes_max: int | None = 64 * MIB
    """Bytes of standard output that `run` collects before it gives up. `start` streams and ignores it."""
    stack_bytes_max: int | None = None
    """Stack (RLIMIT_STACK), for `run` of a command that reads standard input before it works. Git walks trees
    by recursion, so this is a limit for how deep they may nest."""
    cpu_s_max: int | None = None
    """Seconds of computing after which the kernel ends the process (SIGXCPU)."""


DEFAULT_LIMITS = Limits()

_FIXED_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.bigFileThreshold": "50m",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "safe.directory": "*",
}
"""Holds for every process, unless the caller says otherwise."""

_CONFIG_OF_COMMAND = {
    b"index-pack": {
        "core.bigFileThreshold": "1m",
        "core.deltaBaseCacheLimit": "8m",
        "pack.threads": "4",
    }
}
"""Large blobs are streamed through it, not inflated in memory: without it a push of 408 kB was seen to
take 404 MB. Elsewhere the threshold decides what is still compared and compressed as a delta. Each thread
has a stack and a cache of bases, which count as memory; deltas of large files need it more."""

_CONFIG_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*\.([^\n\0]+\.)?[A-Za-z][A-Za-z0-9-]*\Z")
_ENVIRONMENT_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")


@functools.cache
def git_program() -> str:
    """The absolute path of git. Raises `GitMissing`."""
    found = shutil.which("git")
    if found is None:
        raise GitMissing("git was not found on PATH: install git 2.39 or newer (Debian: apt install git)")
    return found


def environment_of(
    place: GitPlace, command: bytes, *, config: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of a git process running `command` at `place`; nothing is inherited."""
    wrong = [name for name in environment if not _ENVIRONMENT_NAME.match(name)]
    if wrong:
        raise ValueError(f"not names of environment variables: {wrong!r}")
    return {
        "PATH": f"{Path(git_program()).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ADVICE": "0",
        **_where(place),
        **_config_variables({**_FIXED_CONFIG, **_CONFIG_OF_COMMAND.get(command, {}), **config}),
        **environment,
    }


def _where(place: GitPlace) -> dict[str, str]:
    variables = {"GIT_DIR": str(place.git_dir)}
    if place.objects is not None:
        variables["GIT_OBJECT_DIRECTORY"] = str(place.objects)
    if place.alternates:
        listed = ":".join(_quoted_alternate(path) for path in place.alternates)
        variables["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = listed
    return variables


def _quoted_alternate(path: Path) -> str:
    """A path inside a colon-separated list: git reads C quoting there when an entry starts with `"`."""
    text = str(path)
    if ":" not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _config_variables(config: Mapping[str, str]) -> dict[str, str]:
    """Configuration in the environment, where a key with `=` in it cannot be misread and `ps` shows less."""
    wrong = [key for key, value in config.items() if not _CONFIG_KEY.match(key) or "\0" in value]
    if wrong:
        raise ValueError(f"not configuration keys, or values with NUL: {wrong!r}")
    variables = {"GIT_CONFIG_COUNT": str(len(config))}
    for number, (key, value) in enumerate(config.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables
