"""The only reader of the environment.

Each room owns a frozen dataclass of its settings; `boot.settings` assembles them from flags, environment,
file and defaults, in that order of strength. This module only knows how to look.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_PREFIX = "MAINSTAY_"
_METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The name is prometheus_client's; it looks at it when it is imported."""


def from_environment(name: str) -> str | None:
    """The value of `MAINSTAY_<NAME>`, or None when unset or empty."""
    return os.environ.get(f"{_PREFIX}{name}") or None


def environment() -> dict[str, str]:
    """All non-empty `MAINSTAY_…` variables, without the prefix."""
    return {
        name.removeprefix(_PREFIX): value
        for name, value in os.environ.items()
        if name.startswith(_PREFIX) and value
    }


def export_to_children(name: str, value: str) -> None:
    """Set `MAINSTAY_<NAME>` for this process and those it starts."""
    os.environ[f"{_PREFIX}{name}"] = value


def child_environment(ours: Mapping[str, str], *, metrics_in: Path) -> dict[str, str]:
    """The environment for a child process: this one, with `ours` on top as `MAINSTAY_…`."""
    prefixed = {f"{_PREFIX}{name}": value for name, value in ours.items()}
    return {**os.environ, **prefixed, _METRICS_DIRECTORY: str(metrics_in)}


def replace_environment(whole: Mapping[str, str]) -> None:
    """Have this environment and nothing of the one before: for a process that was forked, not executed."""
    os.environ.clear()
    os.environ.update(whole)


def environment_of_others() -> dict[str, str]:
    """The environment without anything of ours: for a node that is told everything anew."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_PREFIX) and name != _METRICS_DIRECTORY
    }


def foreign_variables(names: Iterable[str]) -> dict[str, str]:
    """Variables that are not ours, such as a cloud's own: those of `names` that are set."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def export_foreign(name: str, value: str) -> None:
    """Set a variable that is not ours for this process and those it starts."""
    os.environ[name] = value


def metrics_directory() -> Path | None:
    """Where the processes of this node add up their numbers; None when this process is alone."""
    directory = os.environ.get(_METRICS_DIRECTORY)
    return Path(directory) if directory else None


def select_django_settings(module: str) -> None:
    """Tell Django where its settings are, the only way it listens to."""
    os.environ["DJANGO_SETTINGS_MODULE"] = module


def data_directory() -> Path:
    """Where this node keeps what it keeps: `MAINSTAY_DATA`, by default `./data`."""
    return Path(from_environment("DATA") or "data").absolute()
