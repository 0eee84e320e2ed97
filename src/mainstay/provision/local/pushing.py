"""Push in a loop with real git, remember what was acknowledged, and look in the end whether it is there.

A push that is refused or broken off is tried again: a node that dies takes the connections it had with it.
What was acknowledged must be there; nothing else is promised.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mainstay.foundation.clock import SYSTEM
from mainstay.provision.local.member import plain_environment
from mainstay.provision.waiting import StackFailed

OnPush = Callable[["Tally", float, str], None]

_PUSH_S_MAX = 180.0
_PAUSE_S = 2.0
_TRIES_MAX = 1000
_SECOND = 2
_SIGN_IN = '!f() { echo "username=$DEMO_USER"; echo "password=$DEMO_PASSWORD"; }; f'


@dataclass(slots=True)
class Tally:
    """What came of the pushes so far."""

    acknowledged: int = 0
    retried: int = 0
    """Acknowledged at the second try."""
    waited: int = 0
    """Acknowledged after more tries than that: something had to come back first."""
    failed: int = 0
    slowest_s: float = 0.0
    lost: int = 0
    """Acknowledged, and not there in the end."""

    def sentence(self) -> str:
        return (
            f"{self.acknowledged} pushes acknowledged ({self.retried} at the second try, "
            f"{self.waited} after waiting), {self.failed} failed, {self.lost} lost; "
            f"the slowest took {self.slowest_s:.1f} s"
        )


class Pusher:
    """A repository of its own and a loop over it."""

    def __init__(
        self,
        url: str,
        *,
        user: str,
        password: str,
        patience_s: float = 120.0,
        environment: dict[str, str] | None = None,
    ) -> None:
        """A push has failed when it is not acknowledged within `patience_s` of trying again and again."""
        self.tally = Tally()
        self._patience_s = patience_s
        self._url = url
        self._acknowledged: list[str] = []
        self._environment = {
            **plain_environment(),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "visitor",
            "GIT_AUTHOR_EMAIL": "visitor@demo.invalid",
            "GIT_COMMITTER_NAME": "visitor",
            "GIT_COMMITTER_EMAIL": "visitor@demo.invalid",
            "DEMO_USER": user,
            "DEMO_PASSWORD": password,
            **(environment or {}),
        }

    @property
    def pushes(self) -> int:
        """So far, whatever came of them."""
        return self.tally.acknowledged + self.tally.failed

    def run(
        self,
        *,
        may_go_on: Callable[[], bool],
        on_push: OnPush = lambda _tally, _took_s, _problem: None,
    ) -> Tally:
        """Push until `may_go_on` says no, then compare. `on_push` hears how each went."""
        with tempfile.TemporaryDirectory(prefix="mainstay-pushes-") as scratch:
            work = Path(scratch) / "work"
            self._git(Path(scratch), "init", "--quiet", "--initial-branch=main", str(work))
            while may_go_on():
                self._push(work, on_push)
            self.tally.lost = self._missing(Path(scratch))
        return self.tally

    def _push(self, work: Path, on_push: OnPush) -> None:
        self._git(work, "commit", "--quiet", "--allow-empty", f"--message=push {self.pushes + 1}")
        started_s = SYSTEM.monotonic_s()
        tries, problem = self._try_until_acknowledged(work, started_s)
        took_s = SYSTEM.monotonic_s() - started_s
        if tries:
            self.tally.acknowledged += 1
            self._acknowledged.append(self._git(work, "rev-parse", "HEAD").strip())
        else:
            self.tally.failed += 1
        self.tally.retried += tries == _SECOND
        self.tally.waited += tries > _SECOND
        self.tally.slowest_s = max(self.tally.slowest_s, took_s)
        on_push(self.tally, took_s, problem)

    def _try_until_acknowledged(self, work: Path, started_s: float) -> tuple[int, str]:
        """How many tries it took, 0 for never, and what the last refusal was."""
        problem = ""
        for number in range(1, _TRIES_MAX + 1):
            done = self._run(work, ["push", "--quiet", self._url, "HEAD:refs/heads/main"])
            if done.returncode == 0:
                return number, problem
            problem = _sentence(done.stderr)
            if SYSTEM.monotonic_s() - started_s > self._patience_s:
                break
            time.sleep(_PAUSE_S)
        return 0, problem

    def _missing(self, scratch: Path) -> int:
        """How many acknowledged commits a fresh clone does not have."""
        if not self._acknowledged:
            return 0
        self._git(scratch, "clone", "--quiet", "--bare", self._url, str(scratch / "fresh"))
        there = set(self._git(scratch / "fresh", "rev-list", "--all").split())
        return len(set(self._acknowledged) - there)

    def _git(self, directory: Path, *arguments: str) -> str:
        done = self._run(directory, arguments)
        if done.returncode != 0:
            raise StackFailed(f"git {arguments[0]}: {done.stderr.strip()}", log=None)
        return done.stdout

    def _run(self, directory: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-c", f"credential.helper={_SIGN_IN}", *arguments],
            cwd=directory,
            start_new_session=True,  # Ctrl-C ends the loop, not the push under way
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PUSH_S_MAX,
        )


def _sentence(said: str) -> str:
    """The line of git's complaint that says most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if "rejected]" in line]
    telling = reasons or [line for line in lines if line.startswith(("remote:", "fatal:", "error:"))]
    return (telling or lines or ["git said nothing"])[0]
