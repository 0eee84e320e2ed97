"""The command that an SSH client wants to run, read without a shell.

Git quotes a path as a shell would want it: in single quotes, with a quote or an exclamation mark outside
of them behind a backslash. `git-lfs` sends plain words. Everything else is refused, not guessed.
"""

import re
from dataclasses import dataclass

from mainstay.foundation.errors import Invalid
from mainstay.git.protocol.services import Service

COMMAND_BYTES_MAX = 8192
_WORDS = 2  # the service and the path

_WORD = re.compile(r"(?:'[^'\0\n]*'|\\['!]|[A-Za-z0-9_@%+=:,./~-])+", re.ASCII)
_PIECE = re.compile(r"'([^']*)'|\\(.)|([^'\\]+)")

_REFUSED = {
    "git-upload-archive": "archives over SSH are not offered: download them over HTTP",
    "git-lfs-authenticate": "Git LFS over SSH is not offered: use an HTTP remote for Git LFS",
    "git-lfs-transfer": "Git LFS over SSH is not offered: use an HTTP remote for Git LFS",
}


class UnknownSshCommand(Invalid):
    """Not a command that a Git client sends."""


class RefusedSshCommand(Invalid):
    """A command of Git clients that we know and do not offer."""


@dataclass(frozen=True, slots=True)
class SshCommand:
    service: Service
    path: str
    """As the client wrote it, such as `/ada/engine.git`."""


def parse(command: str | bytes) -> SshCommand:
    """Return what the client wants. Raises `UnknownSshCommand` or `RefusedSshCommand`."""
    words = _words(_text(command))
    if words[:1] == ["git"] and len(words) > 1:
        words = [f"git-{words[1]}", *words[2:]]
    if words and words[0] in _REFUSED:
        raise RefusedSshCommand(_REFUSED[words[0]])
    if len(words) != _WORDS or words[0] not in tuple(Service) or not words[1]:
        raise UnknownSshCommand(
            "this server speaks only Git: clone, fetch and push; there is no shell, and this is not a "
            "command of a Git client"
        )
    return SshCommand(Service(words[0]), words[1])


def _text(command: str | bytes) -> str:
    if len(command) > COMMAND_BYTES_MAX:
        raise UnknownSshCommand(f"the command is longer than {COMMAND_BYTES_MAX} bytes")
    try:
        return command.decode("utf-8") if isinstance(command, bytes) else command
    except UnicodeDecodeError:
        raise UnknownSshCommand("the command is not UTF-8") from None


def _words(text: str) -> list[str]:
    """The words of a command line that uses nothing but git's own quoting, with one space between them."""
    words: list[str] = []
    position = 0
    while True:
        found = _WORD.match(text, position)
        if found is None:
            raise _unreadable(text, position)
        words.append(_unquoted(found[0]))
        if found.end() == len(text):
            return words
        if text[found.end()] != " ":
            raise _unreadable(text, found.end())
        position = found.end() + 1


def _unreadable(text: str, position: int) -> UnknownSshCommand:
    return UnknownSshCommand(f"the command cannot be read at {text[position : position + 20]!r}")


def _unquoted(word: str) -> str:
    return "".join(quoted or escaped or plain for quoted, escaped, plain in _PIECE.findall(word))
