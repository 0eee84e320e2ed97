"""The repository that is served: made from a seed, or the user's own.

The made one has the shape of a small project: directories of text that grows by edits, a few binary files,
merges, tags. The same seed gives the same object names on every machine.
"""

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SEED = 20_261_121
_COMMITS = 4_000
_FILES = 400
_WORDS = 3_000
_EPOCH_S = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What was served, for the report."""

    source: str
    objects: int
    refs: int
    pack_bytes: int


def run_git(*arguments: str | Path, feed: bytes | None = None) -> str:
    """Run git to its end and return its output; raises when it fails."""
    done = subprocess.run(["git", *map(str, arguments)], input=feed, capture_output=True, check=False)
    if done.returncode != 0:
        message = f"git {' '.join(map(str, arguments))}: {done.stderr.decode(errors='replace')}"
        raise RuntimeError(message)
    return done.stdout.decode().strip()


def prepare(target: Path, source: str | None) -> Facts:
    """Make `target` a bare repository, packed as well as git can: one pack, bitmap, commit-graph."""
    if source is None:
        run_git("init", "--quiet", "--bare", "--initial-branch=main", target)
        run_git("-C", target, "fast-import", "--quiet", feed=b"".join(_history()))
    else:
        run_git("clone", "--quiet", "--mirror", source, target)
        _keep_branches_and_tags(target)
    run_git("-C", target, "repack", "-a", "-d", "--quiet", "--write-bitmap-index")
    run_git("-C", target, "commit-graph", "write", "--reachable")
    run_git("-C", target, "pack-refs", "--all")
    return _facts(target, source or f"made from seed {_SEED}")


def _keep_branches_and_tags(repository: Path) -> None:
    names = run_git("-C", repository, "for-each-ref", "--format=%(refname)").split()
    other = [name for name in names if not name.startswith(("refs/heads/", "refs/tags/"))]
    if other:
        commands = "".join(f"delete {name}\n" for name in other)
        run_git("-C", repository, "update-ref", "--stdin", feed=commands.encode())


def _facts(repository: Path, source: str) -> Facts:
    counts = dict(line.split(": ") for line in run_git("-C", repository, "count-objects", "-v").splitlines())
    refs = run_git("-C", repository, "for-each-ref", "--format=%(refname)").split()
    packs = list((repository / "objects" / "pack").glob("*.pack"))
    return Facts(source, int(counts["in-pack"]), len(refs), sum(pack.stat().st_size for pack in packs))


def _history() -> Iterator[bytes]:
    """A stream for `git fast-import`."""
    dice = random.Random(_SEED)
    words = [
        "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 11))) for _ in range(_WORDS)
    ]
    files: dict[str, list[str]] = {}
    for number in range(_COMMITS):
        path = _choose_path(dice, files)
        files[path] = _edit(dice, words, files.get(path, []))
        branch = "main" if number % 10 < 8 else f"feature-{number // 400}"
        yield from _commit(number, branch, path, "\n".join(files[path]).encode() + b"\n")
        if number % 200 == 199:
            yield f"reset refs/tags/v{number // 200 + 1}\nfrom refs/heads/main\n\n".encode()
        if number % 250 == 249:
            binary = dice.randbytes(60_000)
            yield from _commit(number, "main", f"assets/picture-{number}.bin", binary)


def _choose_path(dice: random.Random, files: dict[str, list[str]]) -> str:
    number = int(_FILES * dice.random() ** 2)  # some files change far more often than others
    path = f"src/room{number % 14:02}/part{number % 37:02}/module{number:04}.py"
    return path if path in files or len(files) < _FILES else dice.choice(sorted(files))


def _edit(dice: random.Random, words: list[str], lines: list[str]) -> list[str]:
    lines = list(lines)
    for _ in range(dice.randint(1, 4) if lines else 120):
        fresh = " ".join(dice.choices(words, k=dice.randint(3, 12)))
        position = dice.randint(0, len(lines))
        if lines and dice.random() < 0.4:
            lines[min(position, len(lines) - 1)] = fresh
        else:
            lines.insert(position, fresh)
    return lines


def _commit(number: int, branch: str, path: str, content: bytes) -> Iterator[bytes]:
    message = f"Change {path} for reason {number}\n".encode()
    at = _EPOCH_S + number * 3600
    yield f"commit refs/heads/{branch}\n".encode()
    yield f"committer Ada <ada@example.org> {at} +0000\n".encode()
    yield b"data %d\n%s" % (len(message), message)
    if branch != "main" and number % 400 == 8:
        yield b"from refs/heads/main\n"
    if number % 400 == 390:
        yield f"merge refs/heads/feature-{number // 400}\n".encode()
    yield f"M 100644 inline {path}\n".encode()
    yield b"data %d\n%s\n" % (len(content), content)
