"""A Mainstay node under measurement, started as its users start it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from benchmarks.processes import Group
from benchmarks.protocol import Remote
from benchmarks.repository import run_git
from benchmarks.servers import Server, free_port, make_ssh_key, ssh_command, wait_until_listening

_READY_S_MAX = 60
_COMPACT_S_MAX = 120
_PROJECT = "root/bench"
_SCOPES = "api,read_repository,write_repository"


def mainstay(
    directory: Path, repository: Path, *, name: str = "Mainstay", environment: Mapping[str, str] | None = None
) -> Server:
    """A node holding `repository`, tidied up as its own worker does.

    With SQLite and a directory, unless `environment` says otherwise.
    """
    directory.mkdir(parents=True)
    data, log, group = directory / "data", directory / "log", Group(f"mainstay-{directory.name}")
    http_port, ssh_port = free_port(), free_port()
    command = Path(sys.executable).with_name("mainstay")
    listen = ["--http", f"127.0.0.1:{http_port}", "--ssh", f"127.0.0.1:{ssh_port}"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            group.argv(str(command), "serve", "--data", str(data), *listen),
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
        )
    server = Server(name, group, processes=[process])
    try:
        wait_until_listening(http_port, process, log)
        base = f"http://127.0.0.1:{http_port}"
        _wait_until_ready(base, log)
        token = _make_token(command, data)
        key = make_ssh_key(directory)
        _call(base, token, "/user/keys", {"title": "bench", "key": key.with_suffix(".pub").read_text()})
        url = f"{base}/{_PROJECT}.git"
        basic = b64encode(f"root:{token}".encode()).decode()
        server.http = Remote(url, {"Authorization": f"Basic {basic}"})
        server.ssh_url = f"ssh://git@127.0.0.1:{ssh_port}/{_PROJECT}.git"
        server.git_environment = {
            "GIT_SSH_COMMAND": ssh_command(key),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{base}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        }
        _push_everything(repository, url.replace("://", f"://root:{token}@"))
        _tidy(command, data)
    except BaseException:
        server.stop()
        raise
    return server


def _wait_until_ready(base: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_S_MAX
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{base}/-/readiness", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    message = f"Mainstay is not ready:\n{log.read_text(errors='replace')[-3000:]}"
    raise RuntimeError(message)


def _make_token(command: Path, data: Path) -> str:
    arguments = ["token", "create", "--user", "root", "--name", "bench", "--scopes", _SCOPES]
    done = subprocess.run(
        [command, *arguments, "--data", data], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


def _call(base: str, token: str, path: str, body: dict[str, str]) -> None:
    request = urllib.request.Request(
        f"{base}/api/v4{path}",
        data=json.dumps(body).encode(),
        headers={"PRIVATE-TOKEN": token, "Content-Type": "application/json"},
    )
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        message = f"POST {path}: {error.code} {error.read()[:500]!r}"
        raise RuntimeError(message) from error


def _push_everything(repository: Path, url: str) -> None:
    """A mirror push; the branch that HEAD names goes first, so that it is the default branch there too."""
    head = run_git("-C", repository, "symbolic-ref", "HEAD")
    run_git("-C", repository, "push", "--quiet", url, head)
    run_git("-C", repository, "push", "--quiet", "--mirror", url)


def _tidy(command: Path, data: Path) -> None:
    """The maintenance that the node's worker would do by itself after a while."""
    subprocess.run(
        [command, "repo", "maintain", _PROJECT, "--data", data],
        check=True,
        capture_output=True,
        timeout=_COMPACT_S_MAX,
    )
