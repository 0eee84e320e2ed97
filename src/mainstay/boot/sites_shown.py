"""What the API shows of the sites."""

from dataclasses import asdict
from typing import Any

from mainstay.boot.stores import Stores
from mainstay.cluster.epochs.site import SiteFile
from mainstay.foundation.errors import NotFound


class OnlyOneSite(NotFound):
    """There are no other sites."""


def sites_shown(stores: Stores) -> dict[str, Any]:
    """Raises `OnlyOneSite`, `Unavailable`."""
    if stores.settings.sites is None or SiteFile(stores.settings.data).read() is None:
        raise OnlyOneSite("there are no other sites")
    from mainstay.boot import automatic, replica_status  # noqa: PLC0415 - only who has sites pays

    return {**replica_status.overview(stores).answer(), "automatic": asdict(automatic.look(stores))}
