"""`mainstay user`: people, for administrators at the machine."""

import sys
from pathlib import Path
from typing import Any

import click

from mainstay.cli.frame import data_option, json_option, opened, show, table
from mainstay.foundation.clock import iso8601


@click.group
def command() -> None:
    """List and manage users."""


_password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input instead of asking for it."
)


@command.command
@click.argument("username")
@click.option("--name", default="", help="The name to show.")
@click.option("--email", default="")
@click.option("--admin", is_flag=True, help="An administrator, who may do everything.")
@click.option(
    "--password", "with_password", is_flag=True, help="Ask for a password; else by key or token only."
)
@_password_option
@data_option
@json_option
def create(
    *,
    username: str,
    name: str,
    email: str,
    admin: bool,
    with_password: bool,
    password_stdin: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Create a user with a namespace of the same name."""
    password = _password(from_stdin=password_stdin) if with_password or password_stdin else None
    with opened(data):
        from mainstay.product.accounts import services  # noqa: PLC0415 - models need `setup_django`

        user = services.create_user(
            username=username, name=name, email=email, password=password, is_admin=admin
        )
        row = _row(user)
    show(row, as_json=as_json, text=f"user {username} has the id {row['id']}")


@command.command("list")
@click.option("--search", default="", help="Part of the user name or name, or the e-mail address.")
@data_option
@json_option
def list_users(search: str, data: Path | None, as_json: bool) -> None:
    """List users."""
    with opened(data):
        from mainstay.access.actors import SYSTEM as BY_ITSELF  # noqa: PLC0415 - beside its use
        from mainstay.product.accounts import lookup  # noqa: PLC0415 - models need `setup_django`

        rows = [_row(user) for user in lookup.users_for(BY_ITSELF, search=search)]
    head = ("id", "username", "name", "email", "state", "admin")
    show(rows, as_json=as_json, text=table(head, [[row[column] for column in head] for row in rows]))


@command.command
@click.argument("username")
@data_option
@json_option
def block(username: str, data: Path | None, as_json: bool) -> None:
    """Close all doors to a user: password, tokens, keys and sessions."""
    with opened(data):
        from mainstay.product.accounts import lookup, services  # noqa: PLC0415 - models need `setup_django`

        user = lookup.user_named(username)
        services.block(user)
        row = _row(user)
    show(row, as_json=as_json, text=f"user {username} is blocked")


@command.command
@click.argument("username")
@data_option
@json_option
def unblock(username: str, data: Path | None, as_json: bool) -> None:
    """Open the doors again."""
    with opened(data):
        from mainstay.product.accounts import lookup, services  # noqa: PLC0415 - models need `setup_django`

        user = lookup.user_named(username)
        services.unblock(user)
        row = _row(user)
    show(row, as_json=as_json, text=f"user {username} is active")


@command.command
@click.argument("username")
@_password_option
@data_option
@json_option
def password(*, username: str, password_stdin: bool, data: Path | None, as_json: bool) -> None:
    """Set a password."""
    chosen = _password(from_stdin=password_stdin)
    with opened(data) as stores:
        from mainstay.product.accounts import first_start, lookup  # noqa: PLC0415 - models need `setup_django`

        user = lookup.user_named(username)
        first_start.change_password(user, chosen, data_directory=stores.settings.data)
        row = _row(user)
    show(row, as_json=as_json, text=f"user {username} has a new password")


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline(4096).rstrip("\r\n")
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return answer


def _row(user: Any) -> dict[str, Any]:
    return {
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "email": user.email,
        "state": str(user.state),
        "admin": user.is_admin,
        "created_at": iso8601(user.created_at_ms),
    }
