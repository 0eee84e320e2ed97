"""A process that has imported everything, and lets the processes of a node be born from it by `fork`.

Importing takes each process longer than all its other preparations together. Here it is done once, so a node
starts sooner, a killed process is back within moments, and what all have in common is in memory once.

The nursery opens nothing and has one thread: a fork of it is as good as a fresh interpreter. A newborn is
handed to the supervisor (its parent in between ends at once, and the supervisor adopts orphans), so from then
on the nursery may die without anybody noticing.

The supervisor asks by a socket: one JSON object, with the descriptors that the newborn is to have; the answer
is its process id. When the socket ends, so does the nursery.
"""

import array
import ctypes
import gc
import json
import os
import signal
import socket
import subprocess  # noqa: TID251 - this is where servers start
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.settings import replace_environment

log = get_logger()

_MODULE: Final = "mainstay.boot.nursery"
_NEED_DJANGO: Final = ("mainstay.boot.compose", "mainstay.boot.urls", "mainstay.doors.api.urls")
_MESSAGE_BYTES_MAX: Final = 256 * 1024
_DESCRIPTORS_MAX: Final = 16
_LENGTH_BYTES: Final = 4
_BIRTH_S_MAX: Final = 60.0
"""The first waits until everything is imported, on a busy machine."""
_ADOPTION_S_MAX: Final = 10.0
_POLL_S: Final = 0.0005
PR_SET_CHILD_SUBREAPER: Final = 36


class NoBirth(Unavailable):
    """The nursery does not answer; start the process in the ordinary way."""


class Nursery:
    """The supervisor's end. Not for use from two threads."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        """`modules` are imported at once, and Django is set up, by what `environment` says."""
        _adopt_orphans()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno()), *modules],
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._line = ours
        self._line.settimeout(_BIRTH_S_MAX)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def bear(self, module: str, environment: Mapping[str, str], descriptors: Mapping[str, int]) -> int:
        """Start `module` in a process of its own and return its id. Raises `NoBirth`.

        Each of `descriptors` is in its environment as `MAINSTAY_<NAME>`, under the number that it has there.
        """
        asked = {"module": module, "environment": dict(environment), "names": list(descriptors)}
        try:
            _send(self._line, asked, list(descriptors.values()))
            answer, _ = _receive(self._line)
        except (OSError, ValueError) as error:
            raise NoBirth(f"the nursery does not answer: {error!r}") from error
        if answer is None:
            raise NoBirth("the nursery has ended")
        return int(answer["pid"])

    def close(self) -> None:
        """What was born goes on."""
        self._line.close()
        self._process.kill()
        self._process.wait()


def _adopt_orphans() -> None:
    """From now on a process whose parent ends becomes ours, not the one of the machine's init."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap_strangers(known: Sequence[int]) -> None:
    """Take note of the end of orphans that nobody waits for, such as a git of a process that was killed."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in known:
            return
        os.waitpid(found.si_pid, os.WNOHANG)


# In the nursery
def main() -> None:
    """Until the supervisor closes the line, or this is one that was born."""
    from mainstay.boot.child import die_with_parent, show_name  # noqa: PLC0415 - the supervisor does without

    die_with_parent()
    show_name("nursery")
    line, supervisor = socket.socket(fileno=int(sys.argv[1])), os.getppid()
    _import_all(sys.argv[2:])
    born = _until_born(line, supervisor)
    if born is not None:
        import_module(born).main()


def _import_all(modules: Sequence[str]) -> None:
    from mainstay.boot import setup_django  # noqa: PLC0415 - the supervisor does without

    gc.disable()  # what is imported stays: looking for garbage in between is a tenth of the time
    for module in modules:
        import_module(module)
    setup_django()
    for module in _NEED_DJANGO:
        import_module(module)
    gc.collect()
    gc.freeze()  # nobody copies these pages only because somebody looked whether they are garbage
    gc.enable()


def _until_born(line: socket.socket, supervisor: int) -> str | None:
    """In a newborn its module; in the nursery itself None, at the end."""
    while True:
        asked, descriptors = _receive(line)
        if asked is None:
            return None
        with _closed(descriptors):
            if _is_newborn(line, supervisor):
                return _begin(asked, descriptors)


def _is_newborn(line: socket.socket, supervisor: int) -> bool:
    """Fork twice: the one in between ends, the supervisor adopts the newborn, and that says its id.

    A supervisor that was killed in the meantime adopts nobody. Then the newborn ends at once: it has the
    sockets that the next supervisor wants to open.
    """
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return False
    between = os.getpid()
    if os.fork():
        os._exit(0)
    until_s = time.monotonic() + _ADOPTION_S_MAX
    while os.getppid() == between and time.monotonic() < until_s:
        time.sleep(_POLL_S)
    if os.getppid() != supervisor:
        os._exit(1)
    _send(line, {"pid": os.getpid()}, [])
    line.close()
    return True


def _begin(asked: Mapping[str, Any], descriptors: Sequence[int]) -> str:
    """What a fresh interpreter would have found."""
    os.setsid()
    numbers = {}
    for name, number in zip(asked["names"], descriptors, strict=True):
        kept = os.dup(number)
        os.set_inheritable(kept, True)
        numbers[f"MAINSTAY_{name}"] = str(kept)
    replace_environment({**asked["environment"], **numbers})
    return str(asked["module"])


@contextmanager
def _closed(descriptors: Sequence[int]) -> Iterator[None]:
    try:
        yield
    finally:
        for number in descriptors:
            os.close(number)


# On the line
def _send(line: socket.socket, said: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    content = json.dumps(said).encode()
    head = len(content).to_bytes(_LENGTH_BYTES, "big")
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sent = line.sendmsg([head], ancillary)
    assert sent == len(head), "four bytes fit"
    line.sendall(content)


def _receive(line: socket.socket) -> tuple[dict[str, Any] | None, Sequence[int]]:
    """None: the other end has closed. Raises `ValueError` for what is no message."""
    head, descriptors, _, _ = socket.recv_fds(line, _LENGTH_BYTES, _DESCRIPTORS_MAX)
    if len(head) < _LENGTH_BYTES:
        return None, descriptors
    length = int.from_bytes(head, "big")
    if length > _MESSAGE_BYTES_MAX:
        raise ValueError(f"{length} bytes are no message")
    content = bytearray()
    while len(content) < length:
        piece = line.recv(length - len(content))
        if not piece:
            return None, descriptors
        content += piece
    said = json.loads(content)
    if not isinstance(said, dict):
        raise ValueError("not a message")  # noqa: TRY004 - what was sent is wrong, not who called
    return said, descriptors


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
