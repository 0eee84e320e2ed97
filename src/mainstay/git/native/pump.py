"""Feed a child process and collect what it writes, in one thread, within limits."""

import os
import selectors
import subprocess  # noqa: TID251 - this room starts git
from collections.abc import Callable
from typing import IO

from mainstay.foundation.clock import SYSTEM

_CHUNK_BYTES = 64 * 1024
_STDERR_BYTES_MAX = 64 * 1024


class TimeIsUp(Exception):
    """The child did not end in time."""


class OutputTooLong(Exception):
    """The child wrote more than the caller can take."""


def pump(
    child: subprocess.Popen[bytes],
    source: IO[bytes],
    *,
    wall_s_max: float | None,
    output_bytes_max: int | None,
    hear: Callable[[bytes], None] | None = None,
) -> tuple[bytes, bytes]:
    """Copy `source` to the child until it ends; return its standard output and the start of its errors.

    Who gives `hear` gets the output chunk by chunk instead, without a limit.

    A child that closes its input early is no error: its exit code says what it thinks. Raises `TimeIsUp`
    and `OutputTooLong`, and then leaves the child to the caller.
    """
    return _Pump(child, source, wall_s_max, output_bytes_max, hear).until_ended()


class _Pump:
    def __init__(
        self,
        child: subprocess.Popen[bytes],
        source: IO[bytes],
        wall_s_max: float | None,
        output_bytes_max: int | None,
        hear: Callable[[bytes], None] | None,
    ) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self._child = child
        self._stdin: IO[bytes] = child.stdin
        self._stdout: IO[bytes] = child.stdout
        self._stderr: IO[bytes] = child.stderr
        self._source = source
        self._pending = memoryview(b"")
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._output_bytes_max = output_bytes_max
        self._hear = hear
        self._errors = bytearray()
        self._end_s = None if wall_s_max is None else SYSTEM.monotonic_s() + wall_s_max
        self._open = selectors.DefaultSelector()

    def until_ended(self) -> tuple[bytes, bytes]:
        with self._open:
            self._watch_pipes()
            while self._open.get_map():
                for key, _ in self._open.select(self._seconds_left()):
                    key.data()
        self._wait()
        return b"".join(self._output), bytes(self._errors)

    def _watch_pipes(self) -> None:
        os.set_blocking(self._stdin.fileno(), False)
        self._open.register(self._stdout, selectors.EVENT_READ, self._take_output)
        self._open.register(self._stderr, selectors.EVENT_READ, self._take_errors)
        self._open.register(self._stdin, selectors.EVENT_WRITE, self._feed)

    def _seconds_left(self) -> float | None:
        if self._end_s is None:
            return None
        left_s = self._end_s - SYSTEM.monotonic_s()
        if left_s <= 0:
            raise TimeIsUp
        return left_s

    def _feed(self) -> None:
        if not self._pending:
            self._pending = memoryview(self._source.read(_CHUNK_BYTES))
        if not self._pending:
            return self._close_input()
        try:
            sent = os.write(self._stdin.fileno(), self._pending)
        except BlockingIOError:
            return None
        except BrokenPipeError:
            return self._close_input()
        self._pending = self._pending[sent:]
        return None

    def _close_input(self) -> None:
        self._open.unregister(self._stdin)
        self._stdin.close()

    def _take_output(self) -> None:
        chunk = os.read(self._stdout.fileno(), _CHUNK_BYTES)
        if not chunk:
            self._open.unregister(self._stdout)
            return
        if self._hear is not None:
            self._hear(chunk)
            return
        self._output.append(chunk)
        self._output_bytes += len(chunk)
        if self._output_bytes_max is not None and self._output_bytes > self._output_bytes_max:
            raise OutputTooLong

    def _take_errors(self) -> None:
        chunk = os.read(self._stderr.fileno(), _CHUNK_BYTES)
        if not chunk:
            self._open.unregister(self._stderr)
            return
        self._errors += chunk[: _STDERR_BYTES_MAX - len(self._errors)]

    def _wait(self) -> None:
        try:
            self._child.wait(self._seconds_left())
        except subprocess.TimeoutExpired:
            raise TimeIsUp from None
