"""Arguments of git commands: nothing that a user typed can become an option."""

import pytest

from mainstay.git.native.commands import COMMANDS, checked

OID = "a" * 40
HOSTILE = [
    "--output=x",
    "-h",
    "--exec=id",
    "--upload-pack=id",
    "$(id)",
    "a;b",
    "@{-1}",
    "HEAD~1",
    ":/fix",
    "main",
]


@pytest.mark.parametrize(
    "arguments",
    [
        ["rev-list", "--objects", "--stdin", "--not", "--all"],
        ["rev-list", f"^{OID}", OID, f"{OID}..{OID}", f"{OID}^{{commit}}"],
        ["log", "--max-count=5", "-n5", "--format=%H", "refs/heads/--output=x", "--", "-rf", "path"],
        ["log", "--end-of-options", "anything --output=x", "--", "a"],
        ["index-pack", "--stdin", "--fix-thin", "--strict=missingEmail=ignore", "-o", "/q/pack-1.idx"],
        ["commit-graph", "write", "--reachable", "--object-dir", "/x"],
        ["upload-pack", "--stateless-rpc", "--strict", "/data/x.git"],
        ["cat-file", "--batch-check=%(objectname)"],
        ["archive", "--format=tar", "--prefix=../x/", "--end-of-options", "refs/heads/x"],
        ["grep", "-n", "-e", "--open-files-in-pager=id", OID, "--", "path"],
        ["blame", "-L", "1,5", "-p", OID, "--", "--output"],
        [b"diff-tree", b"-r", b"refs/heads/\xff"],
    ],
)
def test_our_own_calls_pass(arguments: list[str | bytes]) -> None:
    assert [word.decode("utf-8", "surrogateescape") for word in checked(arguments)] == [
        word if isinstance(word, str) else word.decode("utf-8", "surrogateescape") for word in arguments
    ]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_hostile_words_pass_nowhere_in_the_open(command: bytes, hostile: str) -> None:
    with pytest.raises(ValueError, match="neither a known option nor a safe operand"):
        checked([command, hostile])


@pytest.mark.parametrize(
    "name",
    [b"refs/heads/a b", b"refs/heads/a^{/x}", b"refs/heads/a~1", b"refs/heads/a:b", b"refs/*", b"refs/a\n"],
)
def test_a_ref_may_not_smuggle_an_expression(name: bytes) -> None:
    with pytest.raises(ValueError, match="safe operand"):
        checked(["log", name])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "not a git command"),
        (["push"], "not a git command"),
        (["-c", "x.y=z", "log"], "not a git command"),
        (["--exec-path=/x"], "not a git command"),
        (["remote"], "not a git command"),
        (["log", "a\0b"], "NUL"),
        (["log", "--", "a\0b"], "NUL"),
        (["index-pack", "--end-of-options", "x"], "end-of-options"),
        (["log", OID + "\n"], "safe operand"),
        (["log", OID[:-1]], "safe operand"),
    ],
)
def test_wrong_calls_are_mistakes_of_the_program(arguments: list[str | bytes], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        checked(arguments)


def test_every_command_is_worth_its_line() -> None:
    readers = {name for name, command in COMMANDS.items() if command.reads_only}
    assert {b"rev-list", b"cat-file", b"upload-pack", b"log"} <= readers
    assert not {b"index-pack", b"pack-objects", b"update-ref", b"init"} & readers
