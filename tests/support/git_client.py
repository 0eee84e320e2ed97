"""Git as people use it: the real client, with a home of its own and nothing from this machine."""

import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_SECONDS_MAX = 120
_CONFIG = """\
[user]
  name = Test
  email = test@example.com
[init]
  defaultBranch = main
[advice]
  detachedHead = false
[protocol "file"]
  allow = always
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def __bool__(self) -> bool:
        return self.code == 0


@dataclass
class GitClient:
    """One person at one machine."""

    home: Path
    key: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / ".gitconfig").write_text(_CONFIG)
        ssh = [
            "ssh",
            *("-F", "none"),
            *("-o", "StrictHostKeyChecking=no"),
            *("-o", f"UserKnownHostsFile={self.home / 'known_hosts'}"),
            *("-o", "LogLevel=ERROR"),
            *("-o", "BatchMode=yes"),
            *("-o", "IdentitiesOnly=yes"),
            *("-o", "IdentityAgent=none"),
            *(("-i", str(self.key)) if self.key else ()),
        ]
        self.ssh = ssh
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSH_COMMAND": shlex.join(ssh),
            "LC_ALL": "C",
            **self.environment,
        }

    def try_(self, *arguments: str | Path, cwd: Path | None = None, input_text: str | None = None) -> Done:
        """Run git and say how it went."""
        return self._run(["git", *map(str, arguments)], cwd, input_text)

    def __call__(self, *arguments: str | Path, cwd: Path | None = None, input_text: str | None = None) -> str:
        """Run git; it must succeed. Returns its output without the last line feed."""
        done = self.try_(*arguments, cwd=cwd, input_text=input_text)
        assert done, f"git {' '.join(map(str, arguments))}: {done.code}\n{done.out}{done.err}"
        return done.out.removesuffix("\n")

    def try_ssh(self, *arguments: str, port: int, user: str = "git", input_text: str = "") -> Done:
        """Run ssh itself, as `ssh -T git@host` would be typed."""
        return self._run([*self.ssh, "-p", str(port), f"{user}@127.0.0.1", *arguments], None, input_text)

    def repository(self, directory: Path, *, files: int = 3) -> Path:
        """A working copy with `files` commits on main, each of one file."""
        self("init", "--quiet", directory)
        for number in range(files):
            self.commit(directory, f"file-{number}", f"content {number}\n")
        return directory

    def commit(self, directory: Path, name: str, content: str) -> str:
        """Add a file and commit it; return the commit."""
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
        self("add", "--all", cwd=directory)
        self("commit", "--quiet", "-m", f"Add {name}", cwd=directory)
        return self("rev-parse", "HEAD", cwd=directory)

    def refs(self, url: str) -> dict[str, str]:
        """What `ls-remote` shows, by name."""
        lines = self("ls-remote", url).splitlines()
        return {name: oid for oid, _, name in (line.partition("\t") for line in lines)}

    def new_key(self, name: str = "id", *options: str) -> Path:
        """Make a key pair in the home; return the private file."""
        key = self.home / name
        kind = options or ("-t", "ed25519")
        subprocess.run(["ssh-keygen", "-q", *kind, "-N", "", "-C", name, "-f", str(key)], check=True)
        return key

    def _run(self, command: list[str], cwd: Path | None, input_text: str | None) -> Done:
        done = subprocess.run(
            command,
            cwd=cwd or self.home,
            env=self.environment,
            input=(input_text or "").encode(),
            capture_output=True,
            check=False,
            timeout=_SECONDS_MAX,
        )
        return Done(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )


def fsck(git: GitClient, directory: Path) -> None:
    """The clone is whole and clean."""
    done = git.try_("fsck", "--full", "--strict", cwd=directory)
    complaints = [line for line in done.err.splitlines() if not line.startswith("Checking")]
    assert done, done.err
    assert complaints == []
