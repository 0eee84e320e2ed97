"""The webhook `cache_sync` on the site of a cache: what is here, and the way to the URL."""

from collections.abc import Callable
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from mainstay import __version__
from mainstay.boot.stores import Stores
from mainstay.boot.unredirected import NoRedirect
from mainstay.cluster.sites.registry import Site
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.logs import Secret
from mainstay.ops.sites.cache_sync import CacheSync, NotTold, Presence
from mainstay.repository.forwarding.holdings import Holdings
from mainstay.storage.ledger import Change

_POST_S_MAX: Final = 5.0


class LocalCache:
    """`ops.sites.cache_sync.Cache`."""

    def __init__(self, stores: Stores, keeps: Callable[[str], bool]) -> None:
        """`keeps`: whether packs under such a key are to be here."""
        self._stores = stores
        self._keeps = keeps
        self._holdings = Holdings(stores.ledger, stores.objects)

    def read(self, key: str) -> bytes:
        return self._stores.objects.get_bytes(key)

    def presence_of(self, change: Change) -> Presence:
        here = self._holdings.of(change.repository_id, at_least=change.version)
        if here is not None and here.is_complete:
            return "here"
        return "coming" if self._keeps(f"repositories/{change.uid}/") else "not kept"

    def project_of(self, change: Change) -> str:
        identity = self._stores.ledger.repository(change.repository_id).identity
        return str(identity.get("full_path", ""))


def poster(url: str, token: Secret) -> Callable[[bytes], None]:
    """Sends a body there. Raises `NotTold`."""
    opener = build_opener(NoRedirect())
    headers = {"Content-Type": "application/json", "User-Agent": f"Mainstay/{__version__}"}
    headers |= {"X-Gitlab-Event": "System Hook"}
    if token.reveal():
        headers["X-Gitlab-Token"] = token.reveal()

    def post(body: bytes) -> None:
        try:
            with opener.open(Request(url, body, headers, method="POST"), timeout=_POST_S_MAX):  # noqa: S310 - http(s), see the setting
                return
        except HTTPError as error:
            with error:
                raise NotTold(f"{url} answered {error.code}") from error
        except (URLError, OSError, HTTPException, ValueError) as error:
            raise NotTold(f"{url} does not answer: {error}") from error

    return post


def cache_sync_of(stores: Stores, me: Site, keeps: Callable[[str], bool]) -> CacheSync:
    """Not started yet."""
    settings = stores.settings
    return CacheSync(
        LocalCache(stores, keeps),
        location=me.name,
        post=poster(settings.cache_sync_url, settings.cache_sync_token),
        clock=SYSTEM,
    )
