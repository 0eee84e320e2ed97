"""What the documentation names exists: links, modules, commands, verbs, lock files."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from architecture.house import ROOT, SOURCE
from mainstay.cli import COMMANDS

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
_ROOMS = "|".join(path.name for path in sorted(SOURCE.iterdir()) if path.is_dir())
_LINK = re.compile(r"\]\(([^)#\s]+)")
_DOTTED = re.compile(rf"`((?:{_ROOMS})\.[a-z_.]+(?:\.[A-Z]\w*(?:\.\w+)?)?)[(`]")
_COMMAND = re.compile(r"^\s*(?:\S*/)?mainstay ([a-z][a-z-]+)", re.MULTILINE)
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)


def test_links_lead_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in _LINK.findall(page.read_text()) if ":" not in link]
    assert links
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_named_modules_exist() -> None:
    named = {(page.name, name) for page in PAGES for name in _DOTTED.findall(page.read_text())}
    assert named
    assert sorted(f"{page}: {name}" for page, name in named if not _exists(name)) == []


def _exists(dotted: str) -> bool:
    """`room.module`, `room.module.Class.method`: the module exists and says the word after it."""
    words = dotted.rstrip(".").split(".")
    for count in range(len(words), 0, -1):
        path = SOURCE.joinpath(*words[:count])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.exists():
            return all(re.search(rf"\b{word}\b", file.read_text()) for word in words[count:])
    return False


def test_named_commands_exist() -> None:
    named = {(page.name, name) for page in PAGES for name in _COMMAND.findall(_code(page.read_text()))}
    assert named
    assert sorted(f"{page}: mainstay {name}" for page, name in named if name not in COMMANDS) == []


def _code(text: str) -> str:
    """What stands in backticks or in a block of code."""
    blocks = re.findall(r"^```.*?^```|^ {4}.*?$", text, re.DOTALL | re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])


def test_every_command_has_its_module() -> None:
    missing = [name for name in COMMANDS if find_spec(f"mainstay.cli.{name.replace('-', '_')}") is None]
    assert missing == []


def test_named_verbs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {
        (page.name, verb)
        for page in PAGES
        for verb in re.findall(r"`?make ([a-z]+)", _code(page.read_text()))
    }
    assert named
    assert sorted(f"{page}: make {verb}" for page, verb in named if f"\n{verb}:" not in makefile) == []


def test_reference_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("lock", ["serve.txt", "develop.txt"])
def test_a_lock_file_names_no_index(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert "--hash=sha256:" in text
    assert not re.search(r"https?://|--(extra-)?index|--find-links|--trusted-host", text)


def test_the_lock_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = _pins("serve.txt")
    wanted = [Requirement(text) for text in project["dependencies"]]
    assert [str(each) for each in wanted if not each.specifier.contains(pins.get(_key(each.name), "0"))] == []


def test_the_two_locks_agree() -> None:
    serve, develop = _pins("serve.txt"), _pins("develop.txt")
    assert {
        name: (serve[name], develop[name])
        for name in serve.keys() & develop.keys()
        if serve[name] != develop[name]
    } == {}


def _pins(lock: str) -> dict[str, str]:
    text = (Path(ROOT) / "requirements" / lock).read_text()
    return {_key(name): version.rstrip("\\").strip() for name, version in _PIN.findall(text)}


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
