"""Real balancers before real or fake nodes.

`balancing(balancer, program, directory)` runs HAProxy or nginx on what `mainstay lb` would print.
`FakeNode` answers readiness as told, says who it is, and shows what reached it.
"""

import contextlib
import json
import re
import socket
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self

from mainstay.provision.balancers.description import BalancedNode, Balancer
from mainstay.provision.balancers.haproxy import haproxy_configuration
from mainstay.provision.balancers.nginx import nginx_configuration
from support.servers import end, is_listening, program, wait_until

Program = Literal["haproxy", "nginx"]


@contextlib.contextmanager
def balancing(
    balancer: Balancer, kind: Program, directory: Path, *, announces_from: str = ""
) -> Iterator[Path]:
    """Run the real program until the block ends; gives its configuration file.

    Connections that begin with a PROXY header come from the address `announces_from`, if there is one: all
    others of this machine do not.
    """
    path = program(kind)
    if kind == "nginx":
        program("ngx_stream_module.so")
    file = directory / f"{kind}.conf"
    text = haproxy_configuration(balancer) if kind == "haproxy" else nginx_configuration(balancer)
    if announces_from:
        text = re.sub(r"(send-proxy\S*)", rf"\1 source {announces_from}", text)
        text = text.replace("proxy_protocol on;", f"proxy_protocol on; proxy_bind {announces_from};")
    file.write_text(text)
    foreground = ["-db", "-f", str(file)] if kind == "haproxy" else ["-c", str(file), "-g", "daemon off;"]
    log = directory / f"{kind}.log"
    with log.open("ab") as out:
        process = subprocess.Popen([path, *foreground], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    ports = {balancer.http_port, balancer.https_port if balancer.tls != "off" else 0, balancer.ssh_port} - {0}
    try:
        wait_until(
            lambda: all(map(is_listening, ports)),
            timeout_s=30,
            what=f"{kind} listens: {log.read_text()}",
            still_possible=lambda: process.poll() is None,
        )
        yield file
    finally:
        end(process)


class FakeNode:
    """HTTP with readiness on one port, a banner on another; both served by threads until the block ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.readiness = 200
        """What it answers; 0: nothing at all."""
        self.status = 200
        """By what it answers requests about repositories."""
        self.bodies: list[bytes] = []
        """Pieces of bodies as they came, of all requests."""
        self.go_on = threading.Event()
        """A stream waits for it before its second half."""
        self.streams = 0
        """Answers that have begun and were not told to go on."""
        self._http = _Server(("127.0.0.1", 0), _Answers)
        self._http.node = self
        self._banner = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> Self:
        for serve in (lambda: self._http.serve_forever(poll_interval=0.05), self._say_banners):
            threading.Thread(target=serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.readiness = 200
        self.go_on.set()
        self.die()

    def die(self) -> None:
        """Hang up; from now on connections are refused."""
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up()
        with contextlib.suppress(OSError):
            self._banner.shutdown(socket.SHUT_RDWR)
        self._banner.close()

    @property
    def described(self) -> BalancedNode:
        http, ssh = self._http.server_address[1], self._banner.getsockname()[1]
        return BalancedNode(name=self.name, host="127.0.0.1", http=http, ssh=ssh)

    def _say_banners(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._banner.accept()
                with connection:
                    connection.sendall(self.name.encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    node: FakeNode

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lines: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        line, address = super().get_request()
        self.lines.append(line)
        return line, address

    def hang_up(self) -> None:
        """On connections that were kept for later, too."""
        for line in self.lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """A client that goes is no news."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        node = self.server.node
        if self.path == "/-/readiness":
            while node.readiness == 0:
                node.go_on.wait(0.05)
            self._answer(node.readiness, b"")
        elif self.headers.get("Upgrade") == "websocket":
            self._echo()
        elif self.path.startswith("/stream"):
            self._stream()
        else:
            seen = [[name.lower(), value] for name, value in self.headers.items()]
            self._answer(
                node.status, json.dumps({"node": node.name, "headers": seen, "path": self.path}).encode()
            )

    def do_POST(self) -> None:
        if length := self.headers.get("Content-Length"):
            self.server.node.bodies.append(self.rfile.read(int(length)))
        else:
            self._read_pieces()
        self._answer(self.server.node.status, self.server.node.name.encode())

    def _read_pieces(self) -> None:
        while size := int(self.rfile.readline(), 16):
            self.server.node.bodies.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        """Half an answer, and the other half when the test says so."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.server.node.streams += 1
        self.wfile.write(b"first")
        self.server.node.go_on.wait(30)
        self.wfile.write(b"other")

    def _echo(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_header("Sec-WebSocket-Accept", b64encode(sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.write(self.rfile.read(4))
        self.close_connection = True
