"""The word of a replica, given by one of its processes and asked for through another.

The process of the site decides whether the site may take over (`watching`), so only it can promise not to.
The primary asks over the line between sites, which a data process serves; commands ask when a person promotes
the site. Both reach it by a socket in the file system, which only the owner of the data directory may open.

    {"ask": "promise", "epoch": 7}   ->   {"is_allowed": true, "because": "…"}
    {"ask": "stand", "epoch": 8}     ->   {"left_s": 3.2}
"""

import json
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from mainstay.cluster.witness.decisions import Verdict
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger

log = get_logger()

SOCKET: Final = "promise.sock"
_LINE_BYTES_MAX: Final = 4096
_ANSWER_S_MAX: Final = 3.0


class NobodyPromises(Unavailable):
    """No process of this site waits for the primary to fall silent, or it does not answer."""


class Word(Protocol):
    """`watching.Watcher`, as far as it is asked."""

    def promise(self, epoch: int) -> Verdict: ...
    def stand(self, epoch: int) -> float: ...


class WordServer:
    """Answers for `word` in the directory `run`, from `start` to `close`."""

    def __init__(self, run: Path, word: Word) -> None:
        self._run = run
        self._word = word
        self._server: socketserver.ThreadingUnixStreamServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        word = self._word

        class Answering(socketserver.StreamRequestHandler):
            timeout = _ANSWER_S_MAX

            def handle(self) -> None:
                with suppress(OSError):  # who does not wait for the answer does not get it
                    self.wfile.write(answer_of(word, self.rfile.readline(_LINE_BYTES_MAX)))

        with _short_path(self._run) as path:
            Path(path).unlink(missing_ok=True)
            self._server = socketserver.ThreadingUnixStreamServer(path, Answering)
            Path(path).chmod(0o600)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="word", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(_ANSWER_S_MAX)
        (self._run / SOCKET).unlink(missing_ok=True)


def answer_of(word: Word, line: bytes) -> bytes:
    """What `word` says to one line of a client; nothing to what is no question."""
    try:
        asked = json.loads(line)
        question, epoch = str(asked["ask"]), int(asked["epoch"])
    except (ValueError, TypeError, KeyError):
        return b""
    if question == "promise":
        verdict = word.promise(epoch)
        return _line({"is_allowed": verdict.is_allowed, "because": verdict.because})
    return _line({"left_s": word.stand(epoch)}) if question == "stand" else b""


def ask_promise(run: Path, epoch: int) -> Verdict:
    """Whether this site waits for a term from now on. Raises `NobodyPromises`."""
    said = _asked(run, {"ask": "promise", "epoch": epoch})
    return Verdict(said.get("is_allowed") is True, str(said.get("because", "")))


def ask_to_stand(run: Path, epoch: int) -> float:
    """Promise nothing any more; for how many seconds the last promise holds. Raises `NobodyPromises`."""
    return float(_asked(run, {"ask": "stand", "epoch": epoch}).get("left_s", 0.0))


def _asked(run: Path, question: dict[str, Any]) -> dict[str, Any]:
    try:
        with socket.socket(socket.AF_UNIX) as line, _short_path(run) as path:
            line.settimeout(_ANSWER_S_MAX)
            line.connect(path)
            line.sendall(_line(question))
            with line.makefile("rb") as answer:
                said = json.loads(answer.readline(_LINE_BYTES_MAX))
    except (OSError, ValueError) as error:
        raise NobodyPromises(f"the process of the site does not answer: {error}") from error
    if not isinstance(said, dict):
        raise NobodyPromises("the process of the site answers something else")
    return said


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


@contextmanager
def _short_path(run: Path) -> Iterator[str]:
    """The name of a socket has 107 bytes at most; a data directory may be anywhere."""
    descriptor = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
