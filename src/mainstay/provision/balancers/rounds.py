"""The looks that nginx does not take: ask every node, write the configuration, reload.

The cluster is asked for its nodes now and then; while it does not answer, those known last are looked at.
"""

import http.client
import os
import subprocess  # noqa: TID251 - the reload of a real program
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mainstay.foundation.errors import MainstayError
from mainstay.foundation.logs import get_logger
from mainstay.provision.balancers.description import BalancedNode, Balancer
from mainstay.provision.balancers.nginx import nginx_configuration
from mainstay.provision.balancers.watching import Watching

log = get_logger()

_ANSWER_S_MAX = 1.5
_DESCRIBE_EVERY_S = 10.0
_RELOAD_S_MAX = 30
_LOOKS_AT_ONCE_MAX = 32


class NginxRounds:
    """One round is one look at every node."""

    def __init__(
        self,
        describe: Callable[[], Balancer],
        *,
        output: Path,
        reload_command: Sequence[str],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._describe = describe
        self._output = output
        self._reload_command = reload_command
        self._monotonic_s = monotonic_s
        self._balancer = describe()
        self._described_s = monotonic_s()
        self._watching = Watching()
        self._threads = ThreadPoolExecutor(_LOOKS_AT_ONCE_MAX)
        self._written = output.read_text() if output.exists() else ""
        self._reload_due = False
        self._trouble = ""

    def turn(self) -> None:
        """Look once, and tell nginx what has changed. A reload that fails is tried again with each turn."""
        self._describe_again()
        nodes = self._balancer.nodes
        ready = dict(zip([node.name for node in nodes], self._threads.map(is_ready, nodes), strict=True))
        resting = self._watching.resting(ready)
        text = nginx_configuration(self._balancer, resting=resting)
        if text != self._written:
            _replace(self._output, text)
            self._written, self._reload_due = text, True
            log.warning("provision.balancer_configured", resting=sorted(resting), nodes=len(nodes))
        if self._reload_due:
            self._reload()

    def _describe_again(self) -> None:
        if self._monotonic_s() - self._described_s < _DESCRIBE_EVERY_S:
            return
        self._described_s = self._monotonic_s()
        try:
            self._balancer = self._describe()
        except MainstayError as error:
            log.warning("provision.nodes_unknown", reason=str(error))

    def _reload(self) -> None:
        try:
            subprocess.run(
                self._reload_command, check=True, capture_output=True, timeout=_RELOAD_S_MAX, text=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", "") or error).strip()
            if said != self._trouble:  # nginx may not run yet: said once
                log.error("provision.balancer_not_reloaded", reason=said)  # noqa: TRY400 - a known error
            self._trouble = said
        else:
            self._reload_due, self._trouble = False, ""


def is_ready(node: BalancedNode) -> bool:
    """Whether it says so within a moment."""
    host, _, port = node.readiness.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_ANSWER_S_MAX)
    try:
        connection.request("GET", "/-/readiness")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _replace(file: Path, text: str) -> None:
    """Whole or not at all: nginx may read it at any moment."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    fresh.write_text(text)
    fresh.replace(file)
