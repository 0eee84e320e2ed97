"""What commands share: the options everybody knows, the opened node, and how an answer is shown.

@click.command
@data_option
@json_option
def command(data: Path | None, as_json: bool) -> None:
    with opened(data) as stores:
        show(answer_of(stores.database), as_json=as_json, text="…")
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mainstay.foundation.errors import NotFound

if TYPE_CHECKING:
    from mainstay.boot.stores import Stores

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MAINSTAY_DATA",
    help="The data directory of the node.  [default: ./data]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer with JSON on standard output.")


class NoDataDirectory(NotFound):
    """The command would work on nothing, and a look must not make an empty node."""


def quiet() -> None:
    """Standard output is for the answer; what rooms log goes to standard error, warnings only."""
    from mainstay.foundation import logs  # noqa: PLC0415 - `--help` does not pay for it

    logs.configure(process="cli", level="warning")


@contextmanager
def opened(data: Path | None, *, orm: bool = True) -> Iterator["Stores"]:
    """The database, ledger and object store of the node in `data`, by the settings it last ran with.

    With `orm` (the default) Django is set up too, for `product.*.services`.
    """
    quiet()
    from mainstay.boot import setup_django  # noqa: PLC0415 - `--help` does not pay for a database driver
    from mainstay.boot.settings import load_for_command  # noqa: PLC0415 - same
    from mainstay.boot.stores import opened_stores  # noqa: PLC0415 - same

    settings = load_for_command(data)
    if not settings.data.is_dir():
        raise NoDataDirectory(
            f"{settings.data} is not there: name the data directory of the node with --data"
        )
    with opened_stores(settings) as stores:
        if orm:
            setup_django()
        yield stores


def show(answer: Mapping[str, Any] | Sequence[Any], *, as_json: bool, text: str) -> None:
    """Print the answer: `text` for people, `answer` as JSON for programs."""
    click.echo(json.dumps(answer, indent=2, default=str) if as_json else text)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
