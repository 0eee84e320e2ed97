"""A web server that remembers what was posted to it, as a receiver of webhooks would."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BODY_BYTES_MAX = 1024**2


@dataclass(frozen=True)
class Post:
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Received:
    """What came to `url` until now."""

    url: str
    posts: list[Post] = field(default_factory=list)


@contextmanager
def webhook_receiver(status: int = 200) -> Iterator[Received]:
    """`status` is what it answers; a redirection leads to itself."""

    class Answering(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            size = min(int(self.headers["Content-Length"]), _BODY_BYTES_MAX)
            received.posts.append(Post(self.path, dict(self.headers), self.rfile.read(size)))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        received = Received(f"http://127.0.0.1:{server.server_port}/hook")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()
