"""The command of an SSH client."""

import pytest

from mainstay.git.protocol.services import Service
from mainstay.git.protocol.ssh_command import RefusedSshCommand, UnknownSshCommand, parse


@pytest.mark.parametrize(
    ("command", "service", "path"),
    [
        ("git-upload-pack '/ada/engine.git'", Service.UPLOAD_PACK, "/ada/engine.git"),
        ("git upload-pack '/ada/engine.git'", Service.UPLOAD_PACK, "/ada/engine.git"),
        ("git-receive-pack 'ada/engine.git'", Service.RECEIVE_PACK, "ada/engine.git"),
        ("git receive-pack ada/engine", Service.RECEIVE_PACK, "ada/engine"),
        (b"git-upload-pack '/ada/engine.git'", Service.UPLOAD_PACK, "/ada/engine.git"),
        ("git-upload-pack '/a'\\''b'\\!'c'", Service.UPLOAD_PACK, "/a'b!c"),
        ("git-upload-pack '/with space/$(id);`x`\\'", Service.UPLOAD_PACK, "/with space/$(id);`x`\\"),
        ("git-upload-pack '/über.git'", Service.UPLOAD_PACK, "/über.git"),
        ("git-upload-pack '--output=x'", Service.UPLOAD_PACK, "--output=x"),
        ("git-upload-pack ''\\'''", Service.UPLOAD_PACK, "'"),
    ],
)
def test_what_git_sends_is_understood(command: str | bytes, service: Service, path: str) -> None:
    found = parse(command)
    assert (found.service, found.path) == (service, path)


@pytest.mark.parametrize(
    "command",
    [
        "git-upload-archive '/ada/engine.git'",
        "git upload-archive '/ada/engine.git'",
        "git-lfs-authenticate /ada/engine.git download",
        "git-lfs-transfer /ada/engine.git upload",
    ],
)
def test_what_is_not_offered_is_refused_in_a_sentence(command: str) -> None:
    with pytest.raises(RefusedSshCommand, match="not offered"):
        parse(command)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "git",
        "sh",
        "git-upload-pack",
        "git-upload-pack ",
        "git-upload-pack ''",
        "git-upload-pack '/a.git' extra",
        "git-upload-pack '/a.git' ",
        " git-upload-pack '/a.git'",
        "git-upload-pack  '/a.git'",
        "git-upload-pack\t'/a.git'",
        "git-upload-pack '/a.git'\n",
        "git-upload-pack '/a\nb.git'",
        "git-upload-pack '/a\0b.git'",
        "git-upload-pack '/a.git",
        "git-upload-pack /a.git;id",
        "git-upload-pack $(id)",
        'git-upload-pack "/a.git"',
        "git-upload-pack /a\\ b.git",
        "git-upload-pack '/a'\\x",
        "git-upload-pack /a.git && id",
        "git-upload-pack --strict /a.git",
        "/usr/bin/git-upload-pack '/a.git'",
        "GIT-UPLOAD-PACK '/a.git'",
        "git git upload-pack '/a.git'",
        "git-shell -c 'git-upload-pack /a'",
        "git-upload-pack /über.git",
        "git-upload-pack '" + "a" * 9000 + "'",
        b"git-upload-pack '/\xff.git'",
    ],
)
def test_everything_else_is_refused_and_not_guessed(command: str | bytes) -> None:
    with pytest.raises(UnknownSshCommand):
        parse(command)
