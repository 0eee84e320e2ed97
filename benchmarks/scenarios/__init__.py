"""What is measured, one module each: `measure(bench) -> list[Measurement]`."""

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import Server


@dataclass(frozen=True, slots=True)
class Bench:
    """The running servers, and how long to look at them."""

    ours: Server
    over_http: Server
    over_ssh: Server
    directory: Path
    repository: Path
    """What all servers were given."""
    rounds: int

    def scratch(self, name: str) -> Path:
        """A fresh path in the work directory."""
        number = len(list(self.directory.glob(f"{name}-*")))
        return self.directory / f"{name}-{number}"


def environment(server: Server) -> dict[str, str]:
    """A git client that knows nothing of its user's configuration."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
        **server.git_environment,
    }
