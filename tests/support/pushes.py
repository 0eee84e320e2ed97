"""Somebody who pushes new branches to one node or another, and remembers what was acknowledged.

git, work = workplace(directory)
pushes = Pushes(git=git, work=work, password=…)
assert pushes.push(node), pushes.refusal
assert pushes.heads_of(other) == pushes.pushed
"""

from dataclasses import dataclass, field
from pathlib import Path

from support.git_client import GitClient
from support.node import Node


@dataclass(kw_only=True)
class Pushes:
    """All go to `root/engine`; one commit each, on top of the last, acknowledged or not."""

    git: GitClient
    work: Path
    password: str
    pushed: dict[str, str] = field(default_factory=dict)
    """Branch → oid, of every push that was acknowledged."""
    refusal: str = ""
    """What git said the last time."""
    attempts: int = 0

    def push(self, node: Node) -> bool:
        """`push-0`, `push-1`, …; whether it was acknowledged."""
        branch, self.attempts = f"push-{self.attempts}", self.attempts + 1
        self.git("commit", "--quiet", "--allow-empty", "-m", branch, cwd=self.work)
        url = node.clone_url("root/engine", secret=self.password)
        done = self.git.try_("push", "--quiet", url, f"HEAD:refs/heads/{branch}", cwd=self.work)
        if done:
            self.pushed[branch] = self.git("rev-parse", "HEAD", cwd=self.work)
        self.refusal = done.err
        return bool(done)

    def heads_of(self, node: Node) -> dict[str, str]:
        """What is there now, as `pushed` has it."""
        found = self.git.refs(node.clone_url("root/engine", secret=self.password))
        heads = {name: oid for name, oid in found.items() if name.startswith("refs/heads/")}
        return {name.removeprefix("refs/heads/"): oid for name, oid in heads.items()}

    def lacking(self, node: Node) -> dict[str, str]:
        """Of what was acknowledged."""
        found = self.heads_of(node)
        return {branch: oid for branch, oid in self.pushed.items() if found.get(branch) != oid}


def workplace(directory: Path) -> tuple[GitClient, Path]:
    """A person and an empty repository in the directory."""
    git, work = GitClient(directory / "home"), directory / "work"
    git("init", "--quiet", str(work))
    return git, work
