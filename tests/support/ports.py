"""Free ports of 127.0.0.1 that stay free while their server is away.

They lie below those that the kernel gives to outgoing connections, so nobody's connection takes the port of a
server that was killed and comes back; and each worker of the tests has a part of its own.
"""

import itertools
import os
import secrets
import socket
from collections.abc import Iterator

_ALL = range(10_000, 15_000)
"""The demo's own choice starts above."""
_TRIES_MAX = 1_000


def free_port() -> int:
    """One on which nobody listens. It is not given twice, until all others were."""
    return next(port for port in itertools.islice(_ours, _TRIES_MAX) if _is_free(port))


def free_pair() -> int:
    """The first of two that follow each other."""
    following = itertools.pairwise(itertools.islice(_ours, _TRIES_MAX))
    return next(
        one for one, next_one in following if next_one == one + 1 and _is_free(one) and _is_free(next_one)
    )


def _candidates() -> Iterator[int]:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = _ALL[len(_ALL) * worker // workers : len(_ALL) * (worker + 1) // workers]
    first = secrets.randbelow(len(mine))  # so that two runs of the tests side by side seldom meet
    return itertools.cycle([*mine[first:], *mine[:first]])


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


_ours = _candidates()
