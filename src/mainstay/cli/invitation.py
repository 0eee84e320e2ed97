"""A one-time token, shown once, with the line to type on the other machine."""

from typing import Protocol

import click

from mainstay.cli.frame import show
from mainstay.foundation.clock import iso8601
from mainstay.foundation.logs import Secret


class Made(Protocol):
    """A token that was just made: its text is kept nowhere."""

    @property
    def id(self) -> str: ...
    @property
    def text(self) -> Secret: ...
    @property
    def expires_ms(self) -> int: ...


def show_invitation(made: Made, *, url: str, command: str, as_json: bool) -> None:
    """Print the token; what to do with it goes to the error stream, so that scripts get the token alone."""
    text, until = made.text.reveal(), iso8601(made.expires_ms)
    show({"token": text, "id": made.id, "expires_at": until, "url": url}, as_json=as_json, text=text)
    if not as_json:
        click.echo(f"On the new machine, before {until}:\n  {command} {url} --token {text}", err=True)
