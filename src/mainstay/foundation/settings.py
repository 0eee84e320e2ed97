"""The only reader of the environment.

Each room owns a frozen dataclass of its settings; `boot.settings` assembles them from flags, file and
environment, in that order of strength. This module only knows how to look.
"""

import os
from pathlib import Path


def from_environment(name: str) -> str | None:
    """The value of `MAINSTAY_<NAME>`, or None when unset or empty."""
    return os.environ.get(f"MAINSTAY_{name}") or None


def export_to_children(name: str, value: str) -> None:
    """Set `MAINSTAY_<NAME>` for this process and those it starts."""
    os.environ[f"MAINSTAY_{name}"] = value


def data_directory() -> Path:
    """Where this node keeps what it keeps: `MAINSTAY_DATA`, by default `./data`."""
    return Path(from_environment("DATA") or "data").absolute()
