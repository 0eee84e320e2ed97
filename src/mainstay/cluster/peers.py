"""Ask another node whether it reaches a dependency, over its health address, in about a second.

The question carries a token that only nodes of the installation can make, because only they have its secret
key; it opens nothing but this question, so that it may travel without TLS.
"""

import hashlib
import hmac
import http.client
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from mainstay.cluster.blame import PeerSays
from mainstay.cluster.nodes import NodeRow
from mainstay.foundation.logs import Secret

PATH = "/-/dependencies"
ANSWER_S = 0.8
"""How long a node that is asked looks for itself."""

_CONNECT_S = 0.6
_READ_S = ANSWER_S + 0.2
PEERS_MAX = 5
"""More would only say the same."""
_ANSWER_BYTES_MAX = 4096


class Questions(Protocol):
    """Asks several nodes at once."""

    def ask(self, peers: Sequence[NodeRow], dependency: str) -> list[PeerSays]:
        """What some of `peers` say about a dependency. Never raises."""
        ...

    def close(self) -> None: ...


def peer_token(secret_key: str) -> Secret:
    """What nodes show each other; the same on every node of an installation."""
    return Secret(hmac.new(secret_key.encode(), b"mainstay: ask a peer", hashlib.sha256).hexdigest())


class PeerQuestions:
    """By HTTP."""

    def __init__(self, token: Secret) -> None:
        self._token = token
        self._threads = ThreadPoolExecutor(PEERS_MAX, thread_name_prefix="peers")

    def ask(self, peers: Sequence[NodeRow], dependency: str) -> list[PeerSays]:
        return list(self._threads.map(lambda peer: self._ask_one(peer, dependency), peers[:PEERS_MAX]))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask_one(self, peer: NodeRow, dependency: str) -> PeerSays:
        host, _, port = peer.health.rpartition(":")
        connection = http.client.HTTPConnection(host.strip("[]"), int(port or 0), timeout=_CONNECT_S)
        try:
            connection.connect()
        except OSError:
            return PeerSays(name=peer.name, reached=False)
        try:
            connection.sock.settimeout(_READ_S)
            well = self._answer(connection, dependency)
            return PeerSays(name=peer.name, reached=True, well=well is True, denies=well is False)
        except (OSError, http.client.HTTPException, ValueError):
            return PeerSays(name=peer.name, reached=True)
        finally:
            connection.close()

    def _answer(self, connection: http.client.HTTPConnection, dependency: str) -> object:
        """True, False, or something else when there is no clear answer."""
        connection.request("GET", f"{PATH}?of={dependency}", headers={"token": self._token.reveal()})
        answer = connection.getresponse()
        said = answer.read(_ANSWER_BYTES_MAX)
        return json.loads(said).get("well") if answer.status == http.client.OK else None
