"""What health checks look at, from the opened stores."""

from mainstay.boot.migrate import is_carried, is_prepared
from mainstay.boot.stores import Stores
from mainstay.doors.health.checks import Dependencies
from mainstay.foundation.clock import SYSTEM
from mainstay.storage.database.fence import fence_of


def dependencies_of(stores: Stores) -> Dependencies:
    def schema_is_current() -> bool:
        if fence_of(stores.settings.data).follows():
            return is_carried(stores.database)
        return is_prepared(stores.database)

    return Dependencies(
        database=stores.database,
        objects=stores.objects,
        schema_is_current=schema_is_current,
        clock=SYSTEM,
        soft_state_problem=lambda: stores.hints.problem,
    )
