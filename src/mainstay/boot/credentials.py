"""The credentials of the object store, from the node that has them in its environment to all others.

Clouds take credentials from the environment. A node that was started with lasting ones keeps them among
the shared secrets, unless there are some; a node that was started without puts those into its own
environment before the store is opened. Roles of the machine or the container, profiles and session tokens
belong to one machine and are never kept: then each node has its own, or the store refuses it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mainstay.boot.settings import NodeSettings
from mainstay.cluster.keyring import SecretUnreadable, key_file
from mainstay.cluster.secrets import Secrets, WrongMasterKey, secrets_in
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import get_logger
from mainstay.foundation.settings import export_foreign, foreign_variables
from mainstay.storage.database import Database
from mainstay.storage.objects.location import CloudLocation, parse_location

log = get_logger()

SECRET = "object_store/environment"  # noqa: S105 - the name of the secret, not its value


class NoCredentials(Invalid):
    """The environment of this command holds none that could be kept."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What one cloud looks at, by the names of its variables."""

    keys: tuple[str, ...]
    """Any of them makes credentials of one's own."""
    complete: tuple[tuple[str, ...], ...]
    """Any of these sets is enough to be kept for others."""
    own: tuple[str, ...]
    """Say that the credentials belong to this machine, or end soon."""
    places: tuple[str, ...] = ()
    """No secrets, but needed with them."""


KINDS: Mapping[str, Kind] = {
    "s3": Kind(
        keys=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        complete=(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),),
        own=(
            "AWS_SESSION_TOKEN",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        ),
        places=(
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
            "AWS_ENDPOINT",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
        ),
    ),
    "gs": Kind(
        keys=("GOOGLE_SERVICE_ACCOUNT_KEY",),
        complete=(("GOOGLE_SERVICE_ACCOUNT_KEY",),),
        own=("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_APPLICATION_CREDENTIALS"),
    ),
    "az": Kind(
        keys=(
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS_KEY",
            "AZURE_STORAGE_CLIENT_SECRET",
        ),
        complete=(
            ("AZURE_STORAGE_ACCOUNT_KEY",),
            ("AZURE_STORAGE_SAS_KEY",),
            ("AZURE_STORAGE_CLIENT_SECRET",),
        ),
        own=("AZURE_FEDERATED_TOKEN_FILE", "AZURE_MSI_ENDPOINT", "IDENTITY_ENDPOINT"),
        places=("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_CLIENT_ID", "AZURE_STORAGE_TENANT_ID"),
    ),
}


def lasting_in(kind: Kind, environment: Mapping[str, str]) -> dict[str, str]:
    """What of this environment other nodes may use, too; empty when it holds nothing of the sort. Pure."""
    complete = any(all(environment.get(name) for name in names) for names in kind.complete)
    if not complete or any(environment.get(name) for name in kind.own):
        return {}
    return {name: environment[name] for name in (*kind.keys, *kind.places) if environment.get(name)}


def missing_in(kind: Kind, environment: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """What of `kept` this environment lacks; nothing when it has credentials of its own. Pure."""
    if any(environment.get(name) for name in (*kind.keys, *kind.own)):
        return {}
    return {name: value for name, value in kept.items() if not environment.get(name)}


def borrow(settings: NodeSettings, database: Database) -> None:
    """Complete the environment of this process by what the cluster keeps. Before the store is opened."""
    kind = _kind_of(settings)
    if kind is None or not key_file(settings.data).exists():
        return
    environment = foreign_variables(_names_of(kind))
    if any(environment.get(name) for name in (*kind.keys, *kind.own)):
        return
    for name, value in missing_in(kind, environment, _kept(settings, database)).items():
        export_foreign(name, value)


def _kept(settings: NodeSettings, database: Database) -> Mapping[str, str]:
    """What the cluster keeps. A database that is not ours keeps nothing; `prepare` says what is wrong."""
    try:
        kept = secrets_in(database, settings.data, SYSTEM).get(SECRET)
    except (WrongMasterKey, SecretUnreadable) as error:
        log.info("boot.object_store_credentials_unreadable", because=str(error))
        return {}
    found: dict[str, str] = json.loads(kept) if kept else {}
    return found


def lend(settings: NodeSettings, secrets: Secrets) -> bool:
    """Keep the credentials of this environment for the others, unless some are kept; say whether they are."""
    kind = _kind_of(settings)
    lasting = lasting_in(kind, foreign_variables(_names_of(kind))) if kind else {}
    if not lasting or secrets.created_ms(SECRET) is not None:
        return False
    secrets.put_if_absent(SECRET, json.dumps(lasting))
    log.info("boot.object_store_credentials_kept", names=sorted(lasting))
    return True


def replace(settings: NodeSettings, secrets: Secrets) -> list[str]:
    """Keep the credentials of this environment in the place of those kept before; return their names."""
    kind = _kind_of(settings)
    lasting = lasting_in(kind, foreign_variables(_names_of(kind))) if kind else {}
    if not lasting:
        raise NoCredentials(
            "this environment has no lasting credentials for the object store: set them as the cloud's own"
            " variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    secrets.put(SECRET, json.dumps(lasting))
    return sorted(lasting)


def _kind_of(settings: NodeSettings) -> Kind | None:
    location = parse_location(settings.object_store)
    return KINDS.get(location.scheme) if isinstance(location, CloudLocation) else None


def _names_of(kind: Kind) -> tuple[str, ...]:
    return (*kind.keys, *kind.own, *kind.places)
