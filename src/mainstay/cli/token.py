"""`mainstay token`: personal access tokens, for administrators at the machine."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from mainstay.cli.frame import data_option, json_option, opened, show, table
from mainstay.foundation.clock import SYSTEM, iso8601


@click.group
def command() -> None:
    """Create and revoke tokens."""


@command.command
@click.option("--user", "username", required=True, help="Whose token it is.")
@click.option("--name", required=True, help="What it is for.")
@click.option("--scopes", required=True, help="Words with commas between, such as api,read_repository.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), help="The day (UTC) on which it stops working.")
@data_option
@json_option
def create(
    *, username: str, name: str, scopes: str, expires: datetime | None, data: Path | None, as_json: bool
) -> None:
    """Create a token and print it, once."""
    with opened(data):
        from mainstay.product.accounts import lookup, services  # noqa: PLC0415 - models need `setup_django`

        made = services.create_token(
            lookup.user_named(username),
            name=name,
            scopes=scopes.split(","),
            expires_on=expires.date() if expires else None,
        )
        show({**_row(made.token), "token": made.plaintext}, as_json=as_json, text=made.plaintext)


@command.command("list")
@click.option("--user", "username", help="Only tokens of this user.")
@data_option
@json_option
def list_tokens(username: str | None, data: Path | None, as_json: bool) -> None:
    """List tokens, without their secrets."""
    with opened(data):
        from mainstay.access.actors import SYSTEM as BY_ITSELF  # noqa: PLC0415 - beside its use
        from mainstay.product.accounts import lookup  # noqa: PLC0415 - models need `setup_django`

        owner = lookup.user_named(username) if username else None
        rows = [_row(token) for token in lookup.tokens_for(BY_ITSELF, user=owner)]
    head = ("id", "user", "name", "scopes", "active", "expires_at", "last_used_at")
    cells = [[_cell(row[column]) for column in head] for row in rows]
    show(rows, as_json=as_json, text=table(head, cells))


@command.command
@click.argument("token_id", type=int)
@data_option
@json_option
def revoke(token_id: int, data: Path | None, as_json: bool) -> None:
    """Revoke the token with this id. Doing it again is fine."""
    with opened(data):
        from mainstay.access.actors import SYSTEM as BY_ITSELF  # noqa: PLC0415 - beside its use
        from mainstay.product.accounts import lookup, services  # noqa: PLC0415 - models need `setup_django`

        token = lookup.token_for(BY_ITSELF, token_id)
        services.revoke_token(token)
        row = _row(token)
    show(row, as_json=as_json, text=f"token {token_id} ({row['name']}) of {row['user']} is revoked")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return "-" if value is None else str(value)


def _row(token: Any) -> dict[str, Any]:
    expired = token.expires_at_ms is not None and token.expires_at_ms <= SYSTEM.now_ms()
    return {
        "id": token.id,
        "user": token.user.username,
        "name": token.name,
        "scopes": token.scopes.split(),
        "active": token.revoked_at_ms is None and not expired,
        "created_at": iso8601(token.created_at_ms),
        "expires_at": iso8601(token.expires_at_ms) if token.expires_at_ms is not None else None,
        "last_used_at": iso8601(token.last_used_at_ms) if token.last_used_at_ms is not None else None,
    }
