"""Write the reference and the map from the code, or say which pages are out of date (`--check`).

Settings, command line, failpoints and metrics each have one source, in the code; the pages are copies that
people can read without it.
"""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "mainstay"
_ABOUT_SETTINGS = """Of a node, in order of strength: flags of `mainstay serve`, the environment, the file
`mainstay.toml` in the data directory (or `--config FILE`), defaults. `mainstay config check` reports every
problem, not the first."""
_ABOUT_FAILPOINTS = """Places where a node can be made to die, for tests:
`MAINSTAY_FAILPOINTS=push.committed=kill,push.pack_stored=sleep:2`. Actions: `kill`, `error`, `sleep:SECONDS`;
with `@N` after it an action happens only at the N-th passage. `mainstay debug failpoints` lists them."""
_NOTE = "<!-- Written by `make docs` from the code. Do not edit. -->"


def main() -> int:
    with tempfile.TemporaryDirectory() as data:
        os.environ["MAINSTAY_DATA"] = data  # nothing may touch ./data
        _import_everything()
        pages = {name: f"{_NOTE}\n{write()}" for name, write in _PAGES.items()}
    if "--check" in sys.argv[1:]:
        return _check(pages)
    for name, text in pages.items():
        (DOCS / name).write_text(text)
    return 0


def _check(pages: dict[str, str]) -> int:
    stale = [name for name, text in pages.items() if not _is_current(DOCS / name, text)]
    for name in stale:
        print(f"docs/{name} is out of date: run `make docs`")
    return 1 if stale else 0


def _is_current(page: Path, text: str) -> bool:
    return page.exists() and page.read_text() == text


def _import_everything() -> None:
    """Failpoints and metrics are declared by importing the room that has them."""
    boot = importlib.import_module("mainstay.boot")
    boot.setup_django()
    package = importlib.import_module("mainstay")
    for module in pkgutil.walk_packages(package.__path__, "mainstay."):
        if not module.name.endswith((".__main__", ".wsgi", ".asgi")) and ".migrations" not in module.name:
            importlib.import_module(module.name)


# Settings


def _settings() -> str:
    parts = [
        "# Settings",
        _ABOUT_SETTINGS,
        _node_settings(),
        "## Limits of the rooms",
        "Not settable from outside. Each room has its own, with these values.",
    ]
    for path in sorted(SOURCE.rglob("settings.py")):
        if path.parent.name not in ("boot", "foundation"):
            parts += [_class_section(node) for node in _settings_classes(path)]
    return "\n\n".join(parts) + "\n"


def _node_settings() -> str:
    boot = importlib.import_module("mainstay.boot.settings")
    (node,) = [
        node for node in _settings_classes(SOURCE / "boot" / "settings.py") if node.name == "NodeSettings"
    ]
    lines = ["| setting | environment | default | |", "|---|---|---|---|"]
    for name, _, meaning in _fields(node):
        default = "`./data`" if name == "data" else _shown_default(boot._OPTIONS[name].default)  # noqa: SLF001 - the table is what is documented
        lines.append(f"| `{name}` | `MAINSTAY_{name.upper()}` | {default} | {meaning} |")
    return "\n".join(lines)


def _shown_default(default: str | Callable[[Path], str]) -> str:
    text = default if isinstance(default, str) else default(Path("/DATA")).replace("/DATA", "DATA")
    return f"`{text}`" if text else "none"


def _settings_classes(path: Path) -> list[ast.ClassDef]:
    tree = ast.parse(path.read_text())
    return [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Settings")]


def _class_section(node: ast.ClassDef) -> str:
    lines = [
        f"### {node.name}",
        "",
        ast.get_docstring(node) or "",
        "",
        "| limit | value | |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {f'`{value}`' if value else ''} | {meaning} |"
        for name, value, meaning in _fields(node)
    ]
    return "\n".join(lines)


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning: the meaning is the string below the field."""
    for statement, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            meaning = ""
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                meaning = " ".join(str(below.value.value).split())
            value = ast.unparse(statement.value) if statement.value else ""
            yield statement.target.id, value, meaning


# The command line


def _command_line() -> str:
    group = importlib.import_module("mainstay.cli").group
    sections = list(_commands(group, ["mainstay"], click.Context(group, info_name="mainstay")))
    intro = "Every command says what it can do with `--help`. Exit codes are at the end of this page."
    return "\n\n".join(["# Command line", intro, *sections, _exit_codes()]) + "\n"


def _commands(command: click.Command, words: list[str], context: click.Context) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield _command_section(command, words, context)
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        if below is not None and not below.hidden:
            yield from _commands(below, [*words, name], click.Context(below, info_name=name, parent=context))


def _command_section(command: click.Command, words: list[str], context: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    text = "\n\n".join(map(_paragraph, (command.help or "").split("\n\n")))
    lines = [f"## {' '.join(words)}", "", f"`{' '.join(words)} {usage}`", "", text]
    options = [record for record in (p.get_help_record(context) for p in command.params) if record]
    if options:
        lines += ["", "| option | |", "|---|---|"]
        lines += [f"| `{_cell(name)}` | {_cell(meaning)} |" for name, meaning in options]
    return "\n".join(lines)


def _paragraph(text: str) -> str:
    """Click keeps lines as they are after a backspace."""
    if "\b" in text:
        return "```\n" + inspect.cleandoc(text.replace("\b\n", "")) + "\n```"
    return " ".join(text.split())


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _exit_codes() -> str:
    exits = importlib.import_module("mainstay.boot.exits")
    lines = [
        "## Exit codes",
        "",
        "| code | |",
        "|---|---|",
        "| 0 | done |",
        "| 1 | a check found something |",
    ]
    lines += [
        f"| {code} | {family.__name__}: {_cell(family.__doc__ or '')} |"
        for family, code in exits.EXIT_CODES.items()
    ]
    lines += [f"| {exits.EXIT_BUG} | a bug, with its trace |", f"| {exits.EXIT_INTERRUPTED} | interrupted |"]
    return "\n".join(lines)


# Failpoints and metrics


def _failpoints() -> str:
    failpoints = importlib.import_module("mainstay.foundation.failpoints")
    lines = [
        "# Failpoints",
        "",
        _ABOUT_FAILPOINTS,
        "",
        "| name | what has happened when it is passed |",
        "|---|---|",
    ]
    lines += [f"| `{point.name}` | {point.meaning} |" for point in failpoints.declared()]
    return "\n".join(lines) + "\n"


def _metrics() -> str:
    registry = importlib.import_module("prometheus_client").REGISTRY
    families = [family for family in registry.collect() if family.name.startswith("mainstay_")]
    lines = [
        "# Metrics",
        "",
        "At `/-/metrics`, in Prometheus' text format.",
        "",
        "| name | type | |",
        "|---|---|---|",
    ]
    for family in sorted(families, key=lambda family: family.name):
        suffix = "_total" if family.type == "counter" else ""
        lines.append(f"| `{family.name}{suffix}` | {family.type} | {family.documentation} |")
    return "\n".join(lines) + "\n"


# The map


def _map() -> str:
    lines = ["# The map", "", "Every module in one line, from its own docstring. Imports go down only."]
    for room in _ROOMS_FROM_THE_TOP:
        lines += ["", f"## {room}", "", _first_line(SOURCE / room / "__init__.py"), ""]
        modules = [path for path in sorted((SOURCE / room).rglob("*.py")) if _is_shown(path)]
        lines += [f"- `{_dotted(path)}`: {_first_line(path)}" for path in modules]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _is_shown(path: Path) -> bool:
    is_room = path.parent.parent == SOURCE and path.name == "__init__.py"
    return "migrations" not in path.parts and not is_room and bool(_first_line(path))


def _dotted(path: Path) -> str:
    words = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


_ROOMS_FROM_THE_TOP = (
    *("cli", "boot", "doors", "product", "ops", "repository", "cache", "cluster", "jobs"),
    *("storage", "git", "access", "provision", "foundation"),
)
_PAGES: dict[str, Callable[[], str]] = {
    "develop/map.md": _map,
    "reference/settings.md": _settings,
    "reference/command-line.md": _command_line,
    "reference/failpoints.md": _failpoints,
    "reference/metrics.md": _metrics,
}

if __name__ == "__main__":
    sys.exit(main())
