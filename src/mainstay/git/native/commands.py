"""Which git commands may run here, and with which arguments.

An argument list is written by us, so one that does not fit this table is a mistake in the program
(`ValueError`), never an answer to a user. What users typed reaches git in four ways only: after
`--end-of-options` or `--`, as a full name `refs/…`, as an object name, or through standard input.
So no ref called `--output=x` can ever be read as an option.

Not here: starting a process (`run`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_END_OF_OPTIONS = b"--end-of-options"
_PATHS_FOLLOW = b"--"
_OBJECT = re.compile(rb"\^?[0-9a-f]{40}(\^\{(tree|commit|object|tag|blob)?\})?\Z")
_RANGE = re.compile(rb"[0-9a-f]{40}\.\.\.?[0-9a-f]{40}\Z")
_FULL_REF = re.compile(rb"\^?refs/[^\x00-\x20\x7f~^:?*\[\\]+(\^\{(tree|commit|object|tag|blob)?\})?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One git command as we use it."""

    reads_only: bool
    """Whether it leaves the object and ref stores as they are."""
    end_of_options: bool = True
    """Whether it understands `--end-of-options`. Hand-written parsers of git do not."""
    flags: frozenset[bytes] = field(default_factory=frozenset)
    """Options given exactly so, such as `--stdin`."""
    valued: tuple[bytes, ...] = ()
    """Options with the value in the same argument, by prefix: `--max-count=`, `-U`."""
    pairs: frozenset[bytes] = field(default_factory=frozenset)
    """Options whose value is the next argument, such as `-o FILE`."""
    words: frozenset[bytes] = field(default_factory=frozenset)
    """Fixed words that are no options, such as the `write` of `commit-graph write`."""


def _command(
    *,
    reads_only: bool = True,
    end_of_options: bool = True,
    flags: str = "",
    valued: str = "",
    pairs: str = "",
    words: str = "",
) -> Command:
    return Command(
        reads_only=reads_only,
        end_of_options=end_of_options,
        flags=frozenset(flags.encode().split()),
        valued=tuple(valued.encode().split()),
        pairs=frozenset(pairs.encode().split()),
        words=frozenset(words.encode().split()),
    )


_WALK_FLAGS = (
    "--all --not --objects --objects-edge --stdin --count --quiet --topo-order --date-order --reverse "
    "--parents --children --boundary --left-right --left-only --right-only --cherry-pick --cherry-mark "
    "--first-parent --merges --no-merges --ignore-missing --missing=error --missing=allow-any "
    "--missing=print --no-object-names --use-bitmap-index --unpacked --do-walk --no-walk --full-history "
    "--simplify-merges --header --timestamp --disk-usage --no-commit-header --root --ancestry-path "
    "--regexp-ignore-case --extended-regexp --fixed-strings --all-match --invert-grep --author-date-order "
    "--exclude-promisor-objects --indexed-objects --in-commit-order --show-pulls --sparse --branches --tags"
)
_WALK_VALUED = (
    "--max-count= --skip= --since= --until= --after= --before= --author= --committer= --grep= --format= "
    "--pretty= --filter= --glob= --exclude= --min-parents= --max-parents= --date= --abbrev= -n"
)
_DIFF_FLAGS = (
    "-p --patch -r -t -z -s --raw --numstat --shortstat --name-only --name-status --full-index --no-renames "
    "--no-color --no-ext-diff --no-textconv --binary --no-prefix --ignore-all-space --ignore-space-change "
    "--cc -c -m --no-patch --patch-with-stat --no-commit-id --root --stdin --no-abbrev --abbrev --check "
    "--merge-base -M -C --summary --exit-code --always --minimal --patience --histogram --indent-heuristic"
)
_DIFF_VALUED = (
    "-U --unified= --stat= --find-renames= --find-copies= --diff-algorithm= --diff-filter= -l -M -C "
    "--src-prefix= --dst-prefix= --format= --pretty= --abbrev= --diff-merges= --inter-hunk-context="
)

COMMANDS: dict[bytes, Command] = {
    b"archive": _command(flags="--verbose -0 -1 -9", valued="--format= --prefix= --mtime=", words="HEAD"),
    b"blame": _command(
        flags="-p --porcelain --line-porcelain --incremental -w -M -C -l -s --root --no-progress",
        valued="--since= --date= --abbrev= -L",
        pairs="-L",
        words="HEAD",
    ),
    b"cat-file": _command(
        flags="-e -p -t -s --batch --batch-check --batch-command --batch-all-objects --buffer --unordered "
        "--no-filter -z --allow-unknown-type",
        valued="--batch= --batch-check= --batch-command= --filter=",
        words="blob tree commit tag HEAD",
    ),
    b"check-ref-format": _command(
        end_of_options=False, flags="--allow-onelevel --no-allow-onelevel --normalize"
    ),
    b"commit-graph": _command(
        reads_only=False,
        flags="--reachable --stdin-packs --stdin-commits --append --split --split=replace --split=no-merge "
        "--changed-paths --no-changed-paths --no-progress --shallow",
        valued="--object-dir= --size-multiple= --max-commits= --expire-time= --max-new-filters=",
        pairs="--object-dir",
        words="write verify",
    ),
    b"commit-tree": _command(reads_only=False, end_of_options=False, pairs="-p -m -F"),
    b"diff": _command(flags=_DIFF_FLAGS + " --cached --no-index", valued=_DIFF_VALUED, words="HEAD"),
    b"diff-tree": _command(flags=_DIFF_FLAGS, valued=_DIFF_VALUED, words="HEAD"),
    b"for-each-ref": _command(
        flags="--ignore-case --stdin --omit-empty",
        valued="--format= --count= --sort= --points-at= --contains= --no-contains= --merged= --no-merged= "
        "--exclude=",
    ),
    b"fsck": _command(
        flags="--full --strict --connectivity-only --no-dangling --dangling --no-reflogs --no-progress "
        "--unreachable --root --tags --name-objects --no-full --no-references"
    ),
    b"grep": _command(
        flags="-n -z -I -i -w -E -F -P -l -L -c --full-name --no-color --break --heading --null "
        "--line-number --ignore-case --fixed-strings --extended-regexp --perl-regexp --max-depth --column "
        "--name-only --no-textconv --threads=1",
        valued="-A -B -C --max-depth= --threads= --max-count= -m",
        pairs="-e",
        words="HEAD",
    ),
    b"hash-object": _command(
        reads_only=False, flags="-w --stdin --no-filters --literally", valued="-t", pairs="-t"
    ),
    b"index-pack": _command(
        reads_only=False,
        end_of_options=False,
        flags="--stdin --fix-thin --strict --fsck-objects --rev-index --no-rev-index --verify --verify-stat "
        "-v --check-self-contained-and-connected --keep --promisor --show-resolving-progress "
        "--report-end-of-input",
        valued="--threads= --max-input-size= --keep= --strict= --fsck-objects= --index-version= "
        "--object-format= --pack_header=",
        pairs="-o",
    ),
    b"init": _command(
        reads_only=False,
        flags="--bare --quiet -q",
        valued="--template= --initial-branch= --object-format= --separate-git-dir=",
    ),
    b"log": _command(
        flags=_WALK_FLAGS + " " + _DIFF_FLAGS + " --follow --no-decorate --no-show-signature --no-mailmap "
        "--use-mailmap --decorate=full --decorate=no --source",
        valued=_WALK_VALUED + " " + _DIFF_VALUED + " -L",
        words="HEAD",
    ),
    b"ls-tree": _command(
        flags="-r -d -t -l -z --name-only --name-status --full-name --full-tree --long --object-only",
        valued="--format= --abbrev=",
        words="HEAD",
    ),
    b"merge-base": _command(
        flags="--all -a --octopus --is-ancestor --independent --fork-point", words="HEAD"
    ),
    b"merge-tree": _command(
        reads_only=False,
        flags="--write-tree --messages --no-messages --name-only -z --allow-unrelated-histories --stdin",
        valued="--merge-base= -X --strategy-option=",
    ),
    b"mktree": _command(reads_only=False, flags="-z --missing --batch"),
    b"multi-pack-index": _command(
        reads_only=False,
        flags="--bitmap --no-bitmap --no-progress --progress --stdin-packs",
        valued="--object-dir= --preferred-pack= --refs-snapshot= --batch-size=",
        words="write verify",
    ),
    b"pack-objects": _command(
        reads_only=False,
        flags="--stdin --stdin-packs --revs --stdout --thin --all --all-progress --all-progress-implied "
        "--delta-base-offset --write-bitmap-index --no-reuse-delta --no-reuse-object --non-empty --local "
        "--honor-pack-keep --unpacked --quiet -q --progress --no-progress --include-tag --shallow "
        "--keep-true-parents --keep-unreachable --pack-loose-unreachable "
        "--use-bitmap-index --no-use-bitmap-index --exclude-promisor-objects "
        "--missing=error --missing=allow-any --missing=allow-promisor --delta-islands --cruft --sparse "
        "--no-sparse --reflog --indexed-objects --incremental --keep-unreachable --no-write-bitmap-index",
        valued="--threads= --window= --depth= --window-memory= --max-pack-size= --compression= --filter= "
        "--index-version= --keep-pack= --shallow-file= --cruft-expiration= --uri-protocol=",
    ),
    b"receive-pack": _command(reads_only=False, flags="--stateless-rpc --http-backend-info-refs"),
    b"rev-list": _command(flags=_WALK_FLAGS, valued=_WALK_VALUED, words="HEAD"),
    b"rev-parse": _command(
        end_of_options=False,
        flags="--verify --quiet -q --git-dir --absolute-git-dir --show-object-format --is-bare-repository "
        "--is-shallow-repository --local-env-vars",
        words="HEAD",
    ),
    b"shortlog": _command(
        flags="-s -n -e -c --summary --numbered --email --no-merges --stdin",
        valued="--group= --since= --until= --max-count=",
        words="HEAD",
    ),
    b"show-index": _command(valued="--object-format="),
    b"symbolic-ref": _command(
        reads_only=False, flags="--quiet -q --short --delete -d", valued="-m", pairs="-m", words="HEAD"
    ),
    b"update-ref": _command(
        reads_only=False, flags="--stdin -z -d --no-deref --create-reflog", pairs="-m", words="HEAD"
    ),
    b"upload-pack": _command(
        flags="--stateless-rpc --strict --no-strict --http-backend-info-refs --advertise-refs",
        valued="--timeout=",
    ),
    b"verify-pack": _command(flags="-v --verbose -s --stat-only", valued="--object-format="),
    b"version": _command(flags="--build-options", end_of_options=False),
}
"""Everything that may run. Whatever is missing here is refused, whatever it would do."""


def checked(arguments: Sequence[str | bytes]) -> list[bytes]:
    """Return the arguments as bytes, or raise `ValueError`: somebody here wrote a wrong call."""
    words = [_as_bytes(argument) for argument in arguments]
    if not words or words[0] not in COMMANDS:
        raise ValueError(f"not a git command that may run here: {words[:1]!r}")
    if any(b"\0" in word for word in words):
        raise ValueError(f"an argument of git {words[0]!r} holds a NUL byte")
    _check_options(words[0], COMMANDS[words[0]], words[1:])
    return words


def _as_bytes(argument: str | bytes) -> bytes:
    return argument if isinstance(argument, bytes) else argument.encode("utf-8", "surrogateescape")


def _check_options(name: bytes, command: Command, words: Sequence[bytes]) -> None:
    position = 0
    while position < len(words):
        word = words[position]
        if word == _PATHS_FOLLOW or (word == _END_OF_OPTIONS and command.end_of_options):
            return
        if word in command.pairs:
            position += 1
        elif not _is_known(command, word):
            raise ValueError(f"git {name.decode()}: {word!r} is neither a known option nor a safe operand")
        position += 1


def _is_known(command: Command, word: bytes) -> bool:
    if word.startswith(b"-"):
        return word in command.flags or word in command.words or word.startswith(command.valued or (b"\0",))
    return word in command.words or word.startswith(b"/") or _is_safe_operand(word)


def _is_safe_operand(word: bytes) -> bool:
    return any(form.match(word) for form in (_OBJECT, _RANGE, _FULL_REF))
