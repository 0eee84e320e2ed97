"""The servers that tests stand on work, and a missing one is never passed over in silence."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import PermissionDeniedError
from obstore.store import S3Store

from support.rgw import S3Server

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.mark.xdist_group("rgw")
def test_the_s3_server_checks_signatures(rgw: S3Server) -> None:
    bucket = rgw.new_bucket()
    right = S3Store(bucket, **_s3(rgw, rgw.secret_key))
    right.put("key", b"bytes")
    assert bytes(right.get("key").bytes()) == b"bytes"
    wrong = S3Store(bucket, **_s3(rgw, "not the secret"))
    with pytest.raises(PermissionDeniedError):
        wrong.get("key")


def _s3(server: S3Server, secret: str) -> dict[str, Any]:
    return {
        "endpoint": server.endpoint,
        "access_key_id": server.access_key,
        "secret_access_key": secret,
        "region": "us-east-1",
        "client_options": {"allow_http": True},
        "retry_config": {"max_retries": 0},
    }


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
