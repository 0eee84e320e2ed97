"""What the endpoints work with, handed to each of them by name when the routes are made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from mainstay.foundation.clock import Clock
from mainstay.product.accounts.settings import DEFAULTS, AccountsSettings
from mainstay.repository.browse import Browser
from mainstay.repository.write import Writer
from mainstay.storage.database import Database
from mainstay.storage.ledger import Ledger

API_VERSION = "17.11.0"
"""The version of GitLab whose shapes this API speaks; clients compare it as x.y.z."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where people reach this site."""

    external_url: str
    """Without a slash at the end, such as `https://git.example.org`; empty: as the client reached us."""
    ssh_host: str
    """Empty: the host of `external_url`."""
    ssh_port: int

    def seen_from(self, *, scheme: str, host: str) -> "Addresses":
        """With what was not set filled in from how a client reached us."""
        external_url = self.external_url or f"{scheme}://{host}"
        ssh_host = self.ssh_host or urlsplit(external_url).hostname or host
        return replace(self, external_url=external_url, ssh_host=ssh_host)

    def web(self, path: str) -> str:
        return f"{self.external_url}/{path}"

    def http_clone(self, path: str) -> str:
        return f"{self.external_url}/{path}.git"

    def ssh_clone(self, path: str) -> str:
        """The short form where the port is the usual one, because only a URL can carry another."""
        if self.ssh_port == 22:  # noqa: PLR2004 - the port that ssh means when none is said
            return f"git@{self.ssh_host}:{path}.git"
        return f"ssh://git@{self.ssh_host}:{self.ssh_port}/{path}.git"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """The dependencies of the API door."""

    database: Database
    ledger: Ledger
    clock: Clock
    browser: Browser
    writer: Writer
    addresses: Addresses
    revision: str
    """What `/version` says beside `API_VERSION`: our own version."""
    sites: Callable[[], Mapping[str, Any]]
    """What is known of the sites; raises `NotFound` where there is one only."""
    accounts: AccountsSettings = DEFAULTS
    """How strict a sign-in is."""
