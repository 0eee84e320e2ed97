"""A server under measurement, and the two peers: nginx + fcgiwrap + git http-backend, and OpenSSH.

Everything listens on a free port of 127.0.0.1, keeps its files in a directory of its own and is ended by
process id.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import Group, Process, tree
from benchmarks.protocol import Remote
from benchmarks.repository import run_git

_START_S_MAX = 60
_STOP_S_MAX = 20
_FCGIWRAP_PROCESSES = 32
_PROGRAM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@dataclass(slots=True)
class Server:
    """A running server: where it is, how to clone from it, and which processes it is made of."""

    name: str
    group: Group
    http: Remote | None = None
    ssh_url: str | None = None
    git_environment: dict[str, str] = field(default_factory=dict)
    """What a `git` client needs to be let in, such as `GIT_SSH_COMMAND`."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(_STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_STOP_S_MAX)
        self.group.close()

    @property
    def remote(self) -> Remote:
        """The repository over HTTP, for those that speak it."""
        if self.http is None:
            message = f"{self.name} does not speak HTTP"
            raise RuntimeError(message)
        return self.http

    def tree(self) -> list[Process]:
        return tree(*(process.pid for process in self.processes))


def program(name: str) -> str:
    found = shutil.which(name, path=_PROGRAM_PATH)
    if found is None:
        message = f"{name} is not installed: run `make bench` as root on Debian, or install it"
        raise SystemExit(message)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    message = f"nothing listens on port {port}:\n{log.read_text(errors='replace')[-3000:]}"
    raise RuntimeError(message)


def nginx(directory: Path, repository: Path) -> Server:
    """nginx, buffering off, in front of fcgiwrap processes that run git http-backend."""
    directory.mkdir(parents=True)
    copy = directory / "repositories" / "bench.git"
    shutil.copytree(repository, copy)
    run_git("-C", copy, "config", "http.receivepack", "true")
    log, fastcgi_socket, port = directory / "log", directory / "fcgiwrap.sock", free_port()
    backend = Path(run_git("--exec-path")) / "git-http-backend"
    configuration = directory / "nginx.conf"
    configuration.write_text(_nginx_configuration(directory, port, fastcgi_socket, backend))
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    group = Group("nginx")
    with log.open("ab") as output:
        workers = subprocess.Popen(
            group.argv(program("fcgiwrap"), "-c", str(_FCGIWRAP_PROCESSES), "-s", f"unix:{fastcgi_socket}"),
            env=environment,
            stdout=output,
            stderr=output,
        )
        front = subprocess.Popen(
            group.argv(program("nginx"), "-p", str(directory), "-c", str(configuration)),
            env=environment,
            stdout=output,
            stderr=output,
        )
    server = Server(
        "nginx + git http-backend",
        group,
        http=Remote(f"http://127.0.0.1:{port}/bench.git", {}),
        processes=[front, workers],
    )
    try:
        wait_until_listening(port, front, log)
    except RuntimeError:
        server.stop()
        raise
    return server


def _nginx_configuration(directory: Path, port: int, fastcgi_socket: Path, backend: Path) -> str:
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    return f"""
{user}
daemon off;
worker_processes 2;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 1000000;
  tcp_nodelay on;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      fastcgi_pass unix:{fastcgi_socket};
      fastcgi_buffering off;
      fastcgi_request_buffering off;
      fastcgi_read_timeout 600;
      fastcgi_param SCRIPT_FILENAME {backend};
      fastcgi_param PATH_INFO $uri;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param REMOTE_ADDR $remote_addr;
      fastcgi_param REMOTE_USER bench;
      fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param GIT_PROJECT_ROOT {directory}/repositories;
    }}
  }}
}}
"""


def make_ssh_key(directory: Path) -> Path:
    """An ed25519 key without a passphrase; the public half is beside it."""
    key = directory / "id_ed25519"
    subprocess.run(
        [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(key)], check=True
    )
    return key


def ssh_command(key: Path) -> str:
    options = (
        "-o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )
    return f"ssh -F /dev/null -i {key} {options}"


def openssh(directory: Path, repository: Path) -> Server:
    """OpenSSH's sshd, as the user who runs the benchmark, with a key that may only run git-shell."""
    directory.mkdir(parents=True)
    copy = directory / "bench.git"
    shutil.copytree(repository, copy)
    key, port, log = make_ssh_key(directory), free_port(), directory / "log"
    host_key = directory / "host_key"
    subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(host_key)], check=True)
    shell = 'git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"'
    public = key.with_suffix(".pub").read_text()
    (directory / "authorized_keys").write_text(f'restrict,command="{shell}" {public}')
    configuration = directory / "sshd_config"
    configuration.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {host_key}\nPidFile {directory}/pid\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin yes\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\nMaxStartups 200\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it when root
    group = Group("openssh")
    with log.open("ab") as output:
        daemon = subprocess.Popen(
            group.argv(program("sshd"), "-D", "-e", "-f", str(configuration)), stdout=output, stderr=output
        )
    user = pwd.getpwuid(os.getuid()).pw_name
    server = Server(
        "OpenSSH + git-shell",
        group,
        ssh_url=f"ssh://{user}@127.0.0.1:{port}{copy}",
        git_environment={"GIT_SSH_COMMAND": ssh_command(key)},
        processes=[daemon],
    )
    try:
        wait_until_listening(port, daemon, log)
    except RuntimeError:
        server.stop()
        raise
    return server
