"""Let the real program say whether it takes a configuration."""

import shutil
import subprocess  # noqa: TID251 - the real program is the judge
import tempfile
from pathlib import Path
from typing import Literal

from mainstay.foundation.errors import Invalid, NotFound

Program = Literal["haproxy", "nginx"]

_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/sbin:/bin"
_TRY_S_MAX = 30


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
        arguments = ["-c", "-f", str(file)] if program == "haproxy" else ["-t", "-c", str(file)]
        return _run(found, arguments)


def _run(program: str, arguments: list[str]) -> str:
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TRY_S_MAX,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationRefused(f"{program} could not be asked: {error}") from error
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise ConfigurationRefused(f"{program} refuses it: {said}")
    return said
