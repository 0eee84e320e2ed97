"""Which git nodes to ask for a repository, in which order. Pure; for warmth only.

Each repository has `PREFERRED` nodes that are asked first, so that its packs are kept in few caches. They
follow from the ids of the nodes alone (rendezvous hashing): every node of the cluster finds the same ones
without asking anybody, and when a node comes or goes only the repositories move that it gains or loses.

A repository may ask for a label (`repository_storage` in the API): then the nodes of that label come before
all others, as long as one of them is alive. So moving a repository is a change of one word.

Any git node can serve any repository; a wrong order costs time and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import blake2b

from mainstay.cluster.nodes import NodeRow

PREFERRED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GitNode:
    """A node that serves Git to others."""

    id: str
    host: str
    port: int
    labels: frozenset[str] = frozenset()


def git_nodes(live: Sequence[NodeRow]) -> list[GitNode]:
    """Those of the living that serve Git to others. One that drains or starts only if there is no other."""
    serving = [node for node in live if "git" in node.roles and node.rpc]
    ready = [node for node in serving if node.state == "ready"]
    return [_git_node(node) for node in ready or serving]


def _git_node(node: NodeRow) -> GitNode:
    host, _, port = node.rpc.rpartition(":")
    return GitNode(id=node.id, host=host.strip("[]"), port=int(port), labels=frozenset(node.labels))


def ranked(repository_id: int, nodes: Sequence[GitNode], *, label: str = "") -> list[GitNode]:
    """All nodes, the warmest for this repository first; those of its label before the others."""
    return sorted(nodes, key=lambda node: (label not in node.labels, -_weight(repository_id, node), node.id))


def order_of_asking(
    repository_id: int,
    nodes: Sequence[GitNode],
    *,
    label: str = "",
    avoided: AbstractSet[str] = frozenset(),
    load: Mapping[str, int] | None = None,
    draw: Callable[[], float] = lambda: 0.0,
) -> list[GitNode]:
    """Whom to ask, one after another, until somebody answers.

    First the preferred nodes, the less busy of them before the other (`load`: our requests there; `draw`
    decides between equals), then the rest. Who failed a moment ago (`avoided`) comes last, but comes.
    """
    busy = load or {}
    warm = ranked(repository_id, nodes, label=label)
    preferred, others = _split(warm, label)
    preferred.sort(key=lambda node: (busy.get(node.id, 0), draw()))
    return sorted([*preferred, *others], key=lambda node: node.id in avoided)


def _split(warm: list[GitNode], label: str) -> tuple[list[GitNode], list[GitNode]]:
    """A node without the label is never preferred while one with it lives."""
    labelled = sum(1 for node in warm if label in node.labels)
    preferred = min(PREFERRED, labelled) if labelled else PREFERRED
    return warm[:preferred], warm[preferred:]


def _weight(repository_id: int, node: GitNode) -> int:
    name = f"{repository_id} {node.id}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest())
