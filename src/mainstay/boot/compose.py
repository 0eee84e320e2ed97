"""Put the parts of one process together: the gate, the API's kit. The Git service is in `git`."""

from mainstay import __version__
from mainstay.access.actors import Actor
from mainstay.boot import setup_django
from mainstay.boot.addresses import ssh_address
from mainstay.boot.degraded import Fallback
from mainstay.boot.git import ApiTools
from mainstay.boot.settings import NodeSettings
from mainstay.boot.sites_shown import sites_shown
from mainstay.boot.stores import Stores
from mainstay.doors.api.kit import Addresses, Kit
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.settings import from_environment
from mainstay.product.accounts.settings import AccountsSettings
from mainstay.product.projects.admission import GitGate
from mainstay.product.projects.locate import ProjectFacts
from mainstay.product.projects.remembered import RememberingGate


def git_gate(stores: Stores, fallback: Fallback | None = None) -> GitGate:
    """Who may fetch from and push to what; with a fallback it remembers who might."""
    if fallback is not None:
        gate = RememberingGate(
            stores.database,
            clock=SYSTEM,
            create_on_push=_create_on_push,
            accounts=_accounts(stores.settings),
            known=fallback.known,
            outage=fallback.outage,
            key=fallback.key,
        )
        if from_environment("PROCESS") == "data":  # one for the whole node
            gate.start()
        return gate
    return GitGate(
        stores.database,
        clock=SYSTEM,
        create_on_push=_create_on_push,
        accounts=_accounts(stores.settings),
    )


def api_kit(stores: Stores, tools: ApiTools) -> Kit:
    """What the API's endpoints work with."""
    settings = stores.settings
    ssh_host, ssh_port = ssh_address(settings)
    return Kit(
        database=stores.database,
        ledger=stores.ledger,
        clock=SYSTEM,
        browser=tools.browser,
        writer=tools.writer,
        addresses=Addresses(external_url=settings.external_url, ssh_host=ssh_host, ssh_port=ssh_port),
        revision=__version__,
        sites=lambda: sites_shown(stores),
        accounts=_accounts(settings),
    )


def _accounts(settings: NodeSettings) -> AccountsSettings:
    return AccountsSettings(never_banned=tuple(map(str, settings.never_banned)))


def _create_on_push(actor: Actor, path: str) -> ProjectFacts:
    """Runs in threads that live long: Django's connection must not outlive the call and go stale."""
    setup_django()  # nothing when it is done, and a wait when it is being done
    from django.db import InterfaceError, OperationalError, connections  # noqa: PLC0415 - needs `setup_django`

    from mainstay.product.projects.services import create_on_push  # noqa: PLC0415 - same
    from mainstay.storage.database.django import raise_away  # noqa: PLC0415 - same

    try:
        return create_on_push(actor, path)
    except (OperationalError, InterfaceError) as error:
        raise_away(error)
    finally:
        connections.close_all()
