"""A server that is missing on this machine is never passed over in silence."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.mark.parametrize(("ci", "exit_code"), [("true", 1), ("", 0)])
def test_a_missing_server_fails_in_ci_and_is_listed_elsewhere(
    tmp_path: Path, ci: str, exit_code: int
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_it.py").write_text(
        "from support.servers import program\ndef test_it():\n    program('no-such-server')\n"
    )
    support = str(CONFTEST.parent)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-q", tmp_path],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": support, "CI": ci},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == exit_code, run.stdout
    assert "server missing: no-such-server" in run.stdout
