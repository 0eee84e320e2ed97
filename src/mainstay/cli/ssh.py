"""`mainstay ssh`: helpers for sites that keep OpenSSH in front.

In `sshd_config`, for the user `git`:

    AuthorizedKeysCommand /usr/local/bin/mainstay ssh authorized-keys --data DIR %t %k
    AuthorizedKeysCommandUser mainstay
    AcceptEnv GIT_PROTOCOL

sshd asks for one key at a time, so the answer is one indexed look-up, however many keys there are.
"""

import shlex
import sys
from pathlib import Path

import click

from mainstay.cli.frame import data_option, opened
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Invalid

_WORDS_OF_A_KEY = 2


class NotAFingerprint(Invalid):
    """Neither a fingerprint nor a type and a key."""


@click.group
def command() -> None:
    """Helpers for sites that keep OpenSSH."""


@command.command("authorized-keys")
@click.argument("key", nargs=-1, required=True)
@click.option("--serve-command", help="What the session runs.  [default: this program's `ssh serve`]")
@data_option
def authorized_keys(key: tuple[str, ...], serve_command: str | None, data: Path | None) -> None:
    """Print the authorized_keys line of KEY: a `SHA256:…` fingerprint (%f), or type and key (%t %k).

    Prints nothing for a key that nobody has; sshd then refuses it.
    """
    with opened(data, orm=False) as stores:
        from mainstay.product.accounts import identify  # noqa: PLC0415 - `--help` does not pay for it

        fingerprint = _fingerprint(key)
        if identify.by_ssh_key(stores.database, fingerprint, clock=SYSTEM) is None:
            return
        line = identify.public_key_line(stores.database, fingerprint)
        served = serve_command or _serve_command(stores.settings.data)
    if line is not None:
        click.echo(f'command="{_quoted(served)} --fingerprint {fingerprint}",restrict {line}')


@command.command("serve")
@click.option("--fingerprint", required=True, help="Of the key that sshd has checked.")
@click.option("--command", "wanted", envvar="SSH_ORIGINAL_COMMAND", help="What the client wants to run.")
@click.option("--git-protocol", envvar="GIT_PROTOCOL", default="", help="Needs `AcceptEnv GIT_PROTOCOL`.")
@click.option("--connection", envvar="SSH_CONNECTION", default="", help="Where the client is, as sshd says.")
@data_option
def serve(
    *, fingerprint: str, wanted: str | None, git_protocol: str, connection: str, data: Path | None
) -> None:
    """Serve one session of OpenSSH; `authorized-keys` makes this the forced command of every key."""
    with opened(data, orm=False) as stores:
        from mainstay.boot import forced_ssh  # noqa: PLC0415 - `--help` does not pay for the Git rooms

        code = forced_ssh.serve(
            stores,
            fingerprint=fingerprint,
            command=wanted or None,
            git_protocol=git_protocol,
            address=connection.partition(" ")[0],
        )
    sys.exit(code)


def _fingerprint(key: tuple[str, ...]) -> str:
    from mainstay.product.accounts.keys import fingerprint_of_line  # noqa: PLC0415 - loads a crypto library

    if len(key) == 1 and key[0].startswith("SHA256:") and key[0].isascii():
        return key[0]
    if len(key) == _WORDS_OF_A_KEY:
        return fingerprint_of_line(*key)
    raise NotAFingerprint("give a SHA256:… fingerprint (%f), or the type and the key (%t %k)")


def _serve_command(data: Path) -> str:
    return shlex.join([sys.executable, "-m", "mainstay", "ssh", "serve", "--data", str(data)])


def _quoted(text: str) -> str:
    """For the double quotes of authorized_keys, where only a quote needs a backslash."""
    return text.replace('"', '\\"')
