"""How another terminal talks to a demo: one line of JSON each way, on the loopback, with a token.

The token is in a file that only the owner of the demo can read.
"""

import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from mainstay.foundation.errors import MainstayError, NotFound, Unavailable

_LINE_BYTES_MAX = 1 << 20
_ANSWER_S_MAX = 180.0
_LISTEN_S = 0.5

Answer = Mapping[str, Any]
Obey = Callable[[str, str], Answer]


class Refused(NotFound):
    """The demo did not do it; the message is its own."""


class NoDemo(Unavailable):
    """Nobody answers."""


class Control:
    """The listening side: a thread that obeys one wish at a time."""

    def __init__(self, obey: Obey) -> None:
        self.token = secrets.token_hex(16)
        self._obey = obey
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(_LISTEN_S)
        self.port: int = self._socket.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_ANSWER_S_MAX)
        self._socket.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(2.0)
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rwb") as stream:
                wish = json.loads(stream.readline(_LINE_BYTES_MAX) or b"{}")
                stream.write(json.dumps(self._answer(wish)).encode() + b"\n")
        except (OSError, ValueError):
            return  # whoever it was did not speak like us, or went away

    def _answer(self, wish: Any) -> Answer:
        given = wish.get("token", "") if isinstance(wish, dict) else ""
        if not hmac.compare_digest(str(given).encode(), self.token.encode()):
            return {"error": "wrong token"}
        try:
            return self._obey(str(wish.get("do", "")), str(wish.get("name", "")))
        except MainstayError as error:
            return {"error": str(error)}


def ask(port: int, token: str, do: str, name: str = "") -> Answer:
    """The asking side. Raises `Refused` with the demo's own words, `NoDemo` when nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
            connection.settimeout(_ANSWER_S_MAX)
            with connection.makefile("rwb") as stream:
                stream.write(json.dumps({"token": token, "do": do, "name": name}).encode() + b"\n")
                stream.flush()
                answer: Answer = json.loads(stream.readline(_LINE_BYTES_MAX) or b'{"error": "it went away"}')
    except OSError as error:
        raise NoDemo(f"the demo does not answer: {error}") from error
    if "error" in answer:
        raise Refused(str(answer["error"]))
    return answer
