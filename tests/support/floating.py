"""Two machines with keepalived and a node that answers `/status` as it is told, in network namespaces."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mainstay.provision.traffic.keepalived import FloatingAddress, keepalived_configuration
from support.chaos.network import Host, Network
from support.servers import end, program

_STATUS = """\
import http.server, pathlib, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(pathlib.Path(sys.argv[1]).read_text()))
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", 8080), Answers).serve_forever()
"""


@dataclass(slots=True)
class Machine:
    """One of the two."""

    host: Host
    status_file: Path
    log: Path
    node: subprocess.Popen[bytes]
    keepalived: subprocess.Popen[bytes]

    def say(self, status: int) -> None:
        fresh = self.status_file.with_suffix(".new")
        fresh.write_text(str(status))
        fresh.replace(self.status_file)

    def has(self, address: str) -> bool:
        shown = subprocess.run(
            ["ip", "-n", self.host.namespace, "-oneline", "address", "show", "dev", "eth0"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return f" {address}/" in shown.stdout


@contextlib.contextmanager
def machines(network: Network, directory: Path, *, moving: str, settle_s: int) -> Iterator[list[Machine]]:
    """Both are replicas to begin with: no one serves."""
    hosts = [network.host("one"), network.host("two")]
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(_machine(host, peer, directory / host.name, moving=moving, settle_s=settle_s))
            for host, peer in (hosts, hosts[::-1])
        ]


@contextlib.contextmanager
def _machine(host: Host, peer: Host, directory: Path, *, moving: str, settle_s: int) -> Iterator[Machine]:
    directory.mkdir()
    status_file, log = directory / "status", directory / "log"
    status_file.write_text("503")
    floating = FloatingAddress(
        interface="eth0",
        addresses=(f"{moving}/24",),
        peers=(peer.address,),
        source=host.address,
        settle_s=settle_s,
        curl=program("curl"),
    )
    (directory / "keepalived.conf").write_text(keepalived_configuration(floating))
    with log.open("ab") as out, contextlib.ExitStack() as stack:
        node = _start([*host.prefix, sys.executable, "-c", _STATUS, str(status_file)], out)
        stack.callback(end, node)
        files = [f"--{kind}={directory / kind}" for kind in ("pid", "vrrp_pid")]
        command = [program("keepalived"), "--dont-fork", "--log-console", "--no-syslog", "--vrrp", *files]
        keepalived = _start([*host.prefix, *command, "--use-file", str(directory / "keepalived.conf")], out)
        stack.callback(end, keepalived)
        yield Machine(host, status_file, log, node, keepalived)


def _start(command: list[str], out: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)  # type: ignore[call-overload]  # a file
