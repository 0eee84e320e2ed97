"""What health checks look at, from the opened stores."""

from mainstay.boot.migrate import is_prepared
from mainstay.boot.stores import Stores
from mainstay.doors.health.checks import Dependencies
from mainstay.foundation.clock import SYSTEM


def dependencies_of(stores: Stores) -> Dependencies:
    def schema_is_current() -> bool:
        return is_prepared(stores.database)

    return Dependencies(
        database=stores.database,
        objects=stores.objects,
        schema_is_current=schema_is_current,
        clock=SYSTEM,
        soft_state_problem=lambda: stores.hints.problem,
    )
