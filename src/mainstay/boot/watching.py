"""What health checks look at, from the opened stores."""

from mainstay.boot.migrate import fingerprint
from mainstay.boot.stores import Stores
from mainstay.doors.health.checks import Dependencies
from mainstay.foundation.clock import SYSTEM
from mainstay.ops import settings_store


def dependencies_of(stores: Stores) -> Dependencies:
    def schema_is_current() -> bool:
        return settings_store.read(stores.database, settings_store.PREPARED_FOR) == fingerprint()

    return Dependencies(
        database=stores.database,
        objects=stores.objects,
        schema_is_current=schema_is_current,
        clock=SYSTEM,
    )
