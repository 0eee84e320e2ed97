"""Let the real program say whether it takes a configuration."""

import os
import pwd
import shutil
import subprocess  # noqa: TID251 - the real program is the judge
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from mainstay.foundation.errors import Invalid, NotFound

Program = Literal["haproxy", "nginx", "keepalived"]

_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/sbin:/bin"
_TRY_S_MAX = 30
_ARGUMENTS: Mapping[Program, tuple[str, ...]] = {
    "haproxy": ("-c", "-f"),
    "nginx": ("-t", "-c"),
    "keepalived": ("--config-test", "--use-file"),
}


class ProgramAway(NotFound):
    """The program is not on this machine."""


class ConfigurationRefused(Invalid):
    """The program says what it does not like."""


def try_configuration(program: Program, text: str) -> str:
    """What the program says to `text`, which it accepts. Raises `ProgramAway`, `ConfigurationRefused`."""
    found = shutil.which(program) or shutil.which(program, path=_PLACES)
    if found is None:
        raise ProgramAway(f"{program} is not on this machine, so the configuration was not tried")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / f"{program}.conf"
        file.write_text(text)
        if program != "keepalived":
            return _run(found, [*_ARGUMENTS[program], str(file)])
        # As root keepalived before 2.2.8 ends itself in the middle of its own test (its issue 2617).
        file.chmod(0o644)
        Path(directory).chmod(0o755)
        return _run(found, [*_ARGUMENTS[program], str(file)], becoming=_nobody())


def _nobody() -> Mapping[str, Any]:
    """For a program that must not be root."""
    if os.geteuid() != 0:
        return {}
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}


def _run(program: str, arguments: list[str], *, becoming: Mapping[str, Any] = MappingProxyType({})) -> str:
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TRY_S_MAX,
            stdin=subprocess.DEVNULL,
            **becoming,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationRefused(f"{program} could not be asked: {error}") from error
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise ConfigurationRefused(f"{program} refuses it: {said}")
    return said
