"""Git by the nodes that have the role `git`, for a node that has not."""

from mainstay.boot.degraded import Fallback
from mainstay.boot.membership import identity_of, secrets_of
from mainstay.boot.stores import Stores
from mainstay.cache.settings import CacheSettings
from mainstay.cluster.labels import label_of
from mainstay.cluster.nodes import live_nodes
from mainstay.cluster.placement import git_nodes
from mainstay.cluster.rpc_tokens import token_pair
from mainstay.foundation.clock import SYSTEM
from mainstay.repository.remote.asking import Asking
from mainstay.repository.remote.content import RemoteContent
from mainstay.repository.remote.kept import Kept
from mainstay.repository.remote.roster import Roster
from mainstay.repository.remote.service import RemoteGitService

_TOKEN_FRESH_S = 5.0


def remote_git_service(
    stores: Stores, cache: CacheSettings, *, fallback: Fallback | None = None
) -> RemoteGitService:
    """The streaming Git service of the other nodes."""
    return RemoteGitService(
        ledger=fallback.ledger if fallback else stores.ledger,
        asking=_asking(stores),
        refs_in_memory_max=cache.refs_in_memory_max,
    )


def remote_content(stores: Stores) -> RemoteContent:
    """The objects of repositories, as other nodes have them."""
    return RemoteContent(ledger=stores.ledger, asking=_asking(stores))


def _asking(stores: Stores) -> Asking:
    secrets = secrets_of(stores)
    return Asking(
        roster=Roster(
            nodes=lambda: git_nodes(live_nodes(stores.database)),
            label_of=lambda repository_id: label_of(stores.database, repository_id),
            clock=SYSTEM,
        ),
        context=identity_of(stores).client_context(),
        token=Kept(lambda: token_pair(secrets).current, fresh_s=_TOKEN_FRESH_S, clock=SYSTEM),
        clock=SYSTEM,
    )
