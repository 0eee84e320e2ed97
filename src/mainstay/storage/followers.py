"""Who must have an object before anything may depend on it, beside the object store.

Where other sites follow synchronously, a push commits when its packs are there, too: so the loss of this
machine loses no push that was answered `ok`. Who they are and what they have is `cluster.sites`' business.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from mainstay.foundation.errors import Unavailable


class FollowersBehind(Unavailable):
    """A site that must have the objects does not confirm that it has them. Nothing was committed."""


class Followers(Protocol):
    """Asked between the objects and the transaction that names them. Safe for threads."""

    def wait(self, keys: Sequence[str]) -> None:
        """Return when every site that must have these objects has them. Raises `FollowersBehind`."""
        ...


class NoFollowers:
    """Where there are no other sites."""

    def wait(self, keys: Sequence[str]) -> None:
        """Nobody is waited for."""


NO_FOLLOWERS: Final = NoFollowers()
