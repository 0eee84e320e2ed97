"""Which nodes rest: for a balancer that cannot look for itself. Pure: looks in, names out.

A node rests after two looks that it failed and comes back with the first that it passes. When all fail, none
rests: then it is more likely the watcher who is cut off, and a request may still find somebody.
"""

from collections.abc import Mapping

FALLS = 2


class Watching:
    """Counts the failed looks at each node."""

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}

    def resting(self, is_ready: Mapping[str, bool]) -> frozenset[str]:
        """Take one look at every node into account. A node that is not looked at any more is forgotten."""
        self._failed = {
            name: 0 if ready else self._failed.get(name, 0) + 1 for name, ready in is_ready.items()
        }
        failing = frozenset(name for name, times in self._failed.items() if times >= FALLS)
        return frozenset() if len(failing) == len(is_ready) else failing
