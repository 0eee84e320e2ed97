"""Run a program of the operator's when a site becomes the primary, or is it no more.

It gets a clean environment (nothing of this process, so no secret), an empty input and a time limit; its
output is kept up to a limit and read no further once the program itself has ended. Whatever it does, the
caller only hears of it: no hook stops a promotion.
"""

import os
import selectors
import signal
import stat
import subprocess  # noqa: TID251 - the program is the operator's own
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import get_logger

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OUTPUT_BYTES_MAX = 16 * 1024
_CHUNK_BYTES = 4096
_TURN_S = 0.05
_GRACE_S = 2.0
"""Between being asked to end and being killed."""


log = get_logger()


class BadHook(Invalid):
    """The file must not be run; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEnd:
    """How it went."""

    exit_code: int | None
    """Negative: the number of the signal that ended it. None: it cannot be ended, and still runs."""
    output: str
    """What it said on both streams, up to a limit."""
    was_too_slow: bool
    took_ms: int


def problem_of(hook: Path) -> str:
    """Why this may not be run; empty when it may."""
    if not hook.is_absolute():
        return f"{str(hook)!r} is not an absolute path"
    try:
        mode, directory_mode = hook.stat().st_mode, hook.parent.stat().st_mode
    except OSError as error:
        return f"cannot look at {hook}: {error.strerror}"
    if not stat.S_ISREG(mode):
        return f"{hook} is not a file"
    if not os.access(hook, os.X_OK):
        return f"{hook} is not executable for this user: chmod +x it"
    return _danger_of(hook, mode, directory_mode)


def _danger_of(hook: Path, mode: int, directory_mode: int) -> str:
    if mode & stat.S_IWOTH:
        return f"everybody can write to {hook}, and so could choose what this node runs: chmod o-w it"
    if directory_mode & stat.S_IWOTH and not directory_mode & stat.S_ISVTX:
        return f"everybody can put another file in the place of {hook}: chmod o-w {hook.parent}"
    return ""


def run_hook(hook: Path, *, facts: Mapping[str, str], limit_s: float) -> HookEnd:
    """Run it to its end or to the limit; `facts` become `MAINSTAY_…`. Raises `BadHook` if it cannot start."""
    if problem := problem_of(hook):
        raise BadHook(problem)
    began_s = time.monotonic()
    try:
        process = subprocess.Popen(
            [str(hook)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(facts),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise BadHook(f"{hook} cannot be run: {error.strerror} (is its first line right?)") from error
    output, was_too_slow = _listen(process, until_s=began_s + limit_s)
    if was_too_slow:
        _end(process)
    took_ms = int((time.monotonic() - began_s) * 1000)
    return HookEnd(
        exit_code=process.poll(),
        output=output.decode(errors="replace").strip(),
        was_too_slow=was_too_slow,
        took_ms=took_ms,
    )


def _environment(facts: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": _PATH, "LANG": "C.UTF-8", **{f"MAINSTAY_{name}": value for name, value in facts.items()}}


def _listen(process: subprocess.Popen[bytes], *, until_s: float) -> tuple[bytes, bool]:
    """What it says until it ends, and whether it took too long.

    Its end counts, not that of its output: a service that it started may keep that open for ever.
    """
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    output = b""
    with process.stdout, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < until_s:
            has_ended = process.poll() is not None
            piece = (
                process.stdout.read(_CHUNK_BYTES) if selector.select(0 if has_ended else _TURN_S) else None
            )
            if piece:
                output = (output + piece)[:_OUTPUT_BYTES_MAX]
            elif has_ended:
                return output, False
            elif piece == b"":
                return output, not _ends_by(process, until_s)
    return output, process.poll() is None


def _ends_by(process: subprocess.Popen[bytes], until_s: float) -> bool:
    """It closed its output and goes on."""
    try:
        process.wait(max(until_s - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, which is in its process group. One that became root cannot be ended."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except (PermissionError, ProcessLookupError) as error:
            log.warning("traffic.hook_not_signalled", pid=process.pid, why=error.strerror)
        if _ends_by(process, time.monotonic() + _GRACE_S):
            return
