"""Real servers for tests: found on this machine, started on a free loopback port, ended by process id.

A server that is not installed skips the test with a reason that starts with `server missing`;
`tests/conftest.py` turns such a skip into a failure when `CI` is set. `tools/servers.sh` installs them.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

SERVER_MISSING = "server missing"
_DEBIAN_PACKAGES = {
    "postgres": "postgresql",
    "pgbouncer": "pgbouncer",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "strace": "strace",
    "curl": "curl",
    "git-lfs": "git-lfs",
    "node": "nodejs",
    "npm": "npm",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "etcd": "etcd-server",
    "redis-server": "redis-server",
    "ngx_stream_module.so": "libnginx-mod-stream",
    "fcgiwrap": "fcgiwrap",
    "wrk": "wrk",
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
    "named": "bind9",
    "keepalived": "keepalived",
}
_START_S_MAX = 60
_STOP_S_MAX = 20


def skip_missing(what: str, how: str) -> NoReturn:
    """Skip this test because a server (or a foreign client) is not on this machine."""
    pytest.skip(f"{SERVER_MISSING}: {what} ({how})")


def program(name: str) -> str:
    """The path of an installed program, PATH or not; skips the test when it is not there."""
    found = _find(name)
    if found is None:
        skip_missing(name, f"apt-get install {_DEBIAN_PACKAGES.get(name, name)}, or `make servers` as root")
    return found


def _find(name: str) -> str | None:
    beside_path = ("/usr/sbin", "/usr/local/sbin", "/sbin")
    path = os.pathsep.join([os.environ.get("PATH", ""), *beside_path])
    if found := shutil.which(name, path=path):
        return found
    if (module := Path("/usr/lib/nginx/modules") / name).exists():
        return str(module)
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(versions, key=_postgresql_major, default=None)
    return str(newest) if newest else None


def _postgresql_major(path: Path) -> int:
    version = path.parts[-3]
    return int(version) if version.isdigit() else 0


def wait_until(
    condition: Callable[[], bool],
    *,
    timeout_s: float,
    what: str,
    still_possible: Callable[[], bool] | None = None,
) -> None:
    """Wait for a state. Fails the test after `timeout_s`, or at once when it is no longer possible."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if still_possible is not None and not still_possible():
            pytest.fail(f"{what}: the process ended")
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.05)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes], *, with_signal: int = signal.SIGTERM) -> None:
    """Ask a process of ours to end, kill it when it does not, and reap it."""
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait(_STOP_S_MAX)


@contextlib.contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """A temporary directory with a short path that another user may enter (pytest's own is private)."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
