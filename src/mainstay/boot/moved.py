"""Where the database of a data directory was moved to, by `mainstay db move`.

`DATA/moved.json` says from which SQLite file to which database. Whatever names that file from then on (a
flag, the environment, the settings file, or nobody, because it is the default) means the database it was
moved to. So one rename is the moment of the move.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from mainstay.foundation.errors import Unavailable
from mainstay.foundation.private_files import replace_file

_SQLITE = "sqlite://"


class MoveUnreadable(Unavailable):
    """The file is there and does not say what it should."""


@dataclass(frozen=True, slots=True)
class Move:
    source: str
    """The SQLite file; within the data directory, by its path from there."""
    target: str
    """As the setting `database_url`: may hold a password."""


def after_move(data: Path, database_url: str) -> str:
    """The database that is meant by `database_url` today. Raises `MoveUnreadable`."""
    if not database_url.startswith(_SQLITE):
        return database_url
    moved = read_move(data)
    if moved is None or data / moved.source != sqlite_file(database_url):
        return database_url
    return moved.target


def sqlite_file(database_url: str) -> Path:
    return Path(unquote(database_url.removeprefix(_SQLITE)))


def read_move(data: Path) -> Move | None:
    """None when nothing was moved."""
    try:
        kept = json.loads(_file(data).read_text())
        return Move(source=kept["source"], target=kept["target"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MoveUnreadable(f"cannot read {_file(data)}: {error!r}") from error


def write_move(data: Path, file: Path, target: str) -> None:
    """From here on the node uses `target`. Survives a power cut."""
    source = file.relative_to(data) if file.is_relative_to(data) else file
    content = json.dumps({"source": str(source), "target": target}).encode()
    replace_file(_file(data), content, durable=True)


def _file(data: Path) -> Path:
    return data / "moved.json"
