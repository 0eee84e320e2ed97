"""House rules that no linter knows. Each finding names the place; the test's name says what to do."""

import ast
import re

from architecture.house import Function, Module, modules, modules_of_tests

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
_VAGUE_MODULES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "manager"}
_NAMED_BY_DJANGO = "orm/base.py"
"""A database engine is found by this name."""
_VAGUE_CLASSES = ("Manager", "Handler", "Helper", "Util", "Utils")
_MACHINE_PATH = re.compile(r"""["'](/work|/tmp|/home|/root|/opt|/Users)\b""")

_CLAIM = re.compile(r"^(raises|fail|warns)$|assert_|check|expect|verify|must_|wait_until")
_NAMES = (ast.Attribute, ast.Name)


def test_a_module_opens_by_saying_what_it_promises() -> None:
    silent = [m.name for m in modules() if m.text.strip() and not ast.get_docstring(m.tree)]
    assert silent == []


def test_a_name_says_what_a_thing_is() -> None:
    vague = [
        m.name for m in modules() if m.path.stem in _VAGUE_MODULES and not m.name.endswith(_NAMED_BY_DJANGO)
    ]
    vague += [
        f"{m.name}: {c.name}" for m in modules() for c in m.classes() if c.name.endswith(_VAGUE_CLASSES)
    ]
    assert vague == []


def test_doors_ask_the_product_and_never_its_tables() -> None:
    direct = [
        f"{m.name}:{node.lineno}"
        for m in modules()
        if m.is_in("doors")
        for node in ast.walk(m.tree)
        if isinstance(node, ast.Attribute) and node.attr in {"objects", "get_model"} and _is_a_table(node)
    ]
    assert direct == []


def _is_a_table(node: ast.Attribute) -> bool:
    """`Project.objects`, `apps.get_model`: not `self.objects`, which is a store."""
    owner = node.value
    return isinstance(owner, ast.Name) and (owner.id[:1].isupper() or owner.id == "apps")


def test_only_outer_rooms_catch_everything() -> None:
    broad = [
        f"{m.name}:{node.lineno}"
        for m in modules()
        if not m.is_in("doors", "boot", "cli", "jobs")
        for node in ast.walk(m.tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _reraises(node)
    ]
    assert broad == []


def _is_broad(node: ast.ExceptHandler) -> bool:
    return node.type is None or (
        isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
    )


def _reraises(node: ast.ExceptHandler) -> bool:
    """Cleaning up and raising again swallows nothing."""
    last = node.body[-1]
    return isinstance(last, ast.Raise)


def test_no_machine_is_named_in_the_source() -> None:
    named = [
        f"{m.name}:{number}"
        for m in modules()
        for number, line in enumerate(m.text.splitlines(), 1)
        if _MACHINE_PATH.search(line)
    ]
    assert named == []


def test_a_module_holds_one_noun() -> None:
    long = [f"{m.name}: {m.text.count(chr(10))} lines" for m in modules()]
    assert [entry for entry in long if int(entry.split()[-2]) > MODULE_LINES_MAX] == []


def test_a_function_fits_the_screen() -> None:
    lengths = [(m, f, (f.end_lineno or f.lineno) - f.lineno) for m in modules() for f in m.functions()]
    assert [f"{m.name}:{f.lineno} {f.name}" for m, f, lines in lengths if lines > FUNCTION_LINES_MAX] == []


def test_a_test_asserts() -> None:
    empty = [
        f"{m.name}:{f.lineno} {f.name}"
        for m, asserting in ((m, _asserting(m)) for m in modules_of_tests())
        for f in m.functions()
        if f.name.startswith("test_") and f.name not in asserting
    ]
    assert empty == []


def _asserting(module: Module) -> set[str]:
    """Functions that assert, or call one in the same module that does."""
    functions = list(module.functions())
    found = {f.name for f in functions if _claims(f)}
    while grown := {f.name for f in functions if f.name not in found and _called_by(f) & found}:
        found |= grown
    return found


def _claims(function: Function) -> bool:
    """It asserts, or calls something whose name says that it does: `pytest.raises`, `wait_until`, …"""
    return any(isinstance(node, ast.Assert) for node in ast.walk(function)) or any(
        _CLAIM.search(name) for name in _called_by(function)
    )


def _called_by(function: Function) -> set[str]:
    called = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return {f.attr if isinstance(f, ast.Attribute) else f.id for f in called if isinstance(f, _NAMES)}
