"""The people and the node of the journeys, for clients that are not git."""

from journeys.conftest import ada, eve, node

__all__ = ["ada", "eve", "node"]
