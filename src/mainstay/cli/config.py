"""`mainstay config`: look at the settings."""

from pathlib import Path

import click

from mainstay.boot.parsing import text_of
from mainstay.boot.settings import OPTION_NAMES, InvalidSettings, NodeSettings, load
from mainstay.cli.frame import json_option, show

_SECRET_URLS = ("database_url", "redis_url")


@click.group
def command() -> None:
    """Look at the settings."""


@command.command
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings as TOML.")
@click.option("--data", metavar="DIR", help="The data directory of the node.  [default: ./data]")
@json_option
def check(config: Path | None, data: str | None, as_json: bool) -> int:
    """Say every problem with the settings that `serve` would find, or show what it would use.

    Exit code 0: fine; 2: there are problems.
    """
    try:
        settings = load({"data": data}, config=config)
    except InvalidSettings as error:
        lines = "\n".join(f"- {problem}" for problem in error.problems)
        show(
            {"problems": error.problems}, as_json=as_json, text=f"{len(error.problems)} problem(s):\n{lines}"
        )
        return 2
    chosen = _shown(settings)
    lines = "\n".join(f"{name} = {value!r}" for name, value in chosen.items())
    show({"problems": [], "settings": chosen}, as_json=as_json, text=lines)
    return 0


def _shown(settings: NodeSettings) -> dict[str, str]:
    """The settings without what must not be seen on a screen."""
    values = {name: text_of(getattr(settings, name)) for name in OPTION_NAMES}
    values["health_token"] = "(set)" if values["health_token"] else ""
    for name in _SECRET_URLS:
        values[name] = without_password(values[name])
    return {"data": str(settings.data), **values}


def without_password(url: str) -> str:
    """The URL with its password hidden."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}:***@{place}" if at and colon else url
