"""Settings of the whole instance, and its maintenance mode, as GitLab's clients know them."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.doors.api.endpoint import Endpoint
from mainstay.doors.api.errors import about
from mainstay.ops.maintenance import switch
from mainstay.ops.maintenance.state import Mode, banner_of
from mainstay.ops.maintenance.switch import Seen
from mainstay.product.accounts.lookup import require


class ApplicationSettings(Endpoint):
    """What administrators may set by API; whoever is not one is told nothing."""

    def get(self, _request: Request) -> Response:
        require(Action.ADMIN, self.actor)
        return Response(_shape_of(switch.look(self.kit.database)))

    def put(self, _request: Request) -> Response:
        """Parameters that are not known are left alone, as GitLab does. On means read-only, for everybody."""
        require(Action.ADMIN, self.actor)
        on = self.parameters.maybe_boolean("maintenance_mode")
        message = self.parameters.maybe_text("maintenance_mode_message")
        with about("maintenance_mode_message"):
            seen = self._set(on, message)
        return Response(_shape_of(seen))

    post = put

    def _set(self, on: bool | None, message: str | None) -> Seen:
        database, by = self.kit.database, self.actor.label
        seen = switch.look(database)
        if on and seen.state.mode_at(seen.now_ms) is Mode.OFF:
            return switch.turn_on(database, mode=Mode.READ_ONLY, by=by, message=message)
        if on is False:
            return switch.turn_off(database, by=by, message=message)
        return seen if message is None else switch.set_message(database, message)


class MaintenanceState(Endpoint):
    """What everybody may know: what is in force, and what is coming."""

    anonymous_may_read = True
    every_scope = True

    def get(self, _request: Request) -> Response:
        seen = switch.look(self.kit.database)
        mode = seen.state.mode_at(seen.now_ms)
        return Response({"mode": mode.value, "banner": banner_of(seen.state, seen.now_ms)})


def _shape_of(seen: Seen) -> dict[str, Any]:
    return {
        "maintenance_mode": seen.state.mode_at(seen.now_ms) is not Mode.OFF,
        "maintenance_mode_message": seen.state.message or None,
    }
