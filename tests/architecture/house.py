"""The source of the house as syntax trees, for the rules in this folder."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "mainstay"
TESTS = ROOT / "tests"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of Python."""

    path: Path

    @property
    def name(self) -> str:
        """The path from the root of the repository, as findings show it."""
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    def is_in(self, *rooms: str) -> bool:
        return any(self.path.is_relative_to(SOURCE / room) for room in rooms)


@cache
def modules() -> list[Module]:
    """Every module under src that people write (Django writes migrations)."""
    paths = (path for path in sorted(SOURCE.rglob("*.py")) if "migrations" not in path.parts)
    return [Module(path) for path in paths]


@cache
def modules_of_tests() -> list[Module]:
    return [Module(path) for path in sorted(TESTS.rglob("test_*.py"))]
