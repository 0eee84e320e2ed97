"""Nothing is promised without a test, and every test that a page names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from architecture.house import ROOT

PAGE = ROOT / "docs" / "design" / "guarantees.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_FILE = re.compile(r"`(tests/[\w/]+\.py)`")
_PROMISE = re.compile(r"^\d+\. ", re.MULTILINE)


@cache
def functions_in(file: Path) -> frozenset[str]:
    if not file.exists():
        return frozenset()
    tree = ast.parse(file.read_text())
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def promises() -> list[str]:
    """The numbered sentences, with what follows each."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    promised = [section for section in sections if section.startswith("Of a")]
    return [each for section in promised for each in _PROMISE.split(section)[1:]]


def test_every_promise_names_a_test() -> None:
    assert len(promises()) > 12
    assert [each.splitlines()[0] for each in promises() if not _NAMED.search(each)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_the_tests_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    missing = [
        f"{file}::{name}" for file, name in _NAMED.findall(text) if name not in functions_in(ROOT / file)
    ]
    missing += [file for file in _FILE.findall(text) if not (ROOT / file).exists()]
    assert missing == []


def test_a_test_that_is_not_there_would_be_noticed() -> None:
    assert "test_no_such_test" not in functions_in(Path(__file__))
    assert "test_a_test_that_is_not_there_would_be_noticed" in functions_in(Path(__file__))
