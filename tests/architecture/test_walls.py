"""The walls between the rooms stand: import contracts, as written in pyproject.toml."""

from pathlib import Path

from importlinter import cli

ROOT = Path(__file__).parents[2]


def test_every_import_contract_is_kept(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.lint_imports(cache_dir=None, no_cache=True) == cli.EXIT_STATUS_SUCCESS
