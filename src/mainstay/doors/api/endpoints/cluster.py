"""The nodes and the sites of this installation, for administrators."""

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.cluster import nodes
from mainstay.cluster.overview import problems_of, shape_of, verdict_of
from mainstay.doors.api.endpoint import Endpoint
from mainstay.product.accounts.lookup import require


class Nodes(Endpoint):
    """Every node on the list: what it does, where it is, when it was last heard of."""

    def get(self, _request: Request) -> Response:
        require(Action.ADMIN, self.actor)
        listing = nodes.list_nodes(self.kit.database)
        problems = problems_of(listing)
        return Response(
            {
                "verdict": verdict_of(listing, problems),
                "problems": problems,
                "nodes": [shape_of(node, listing.now_ms) for node in listing.nodes],
            }
        )


class Sites(Endpoint):
    """What `mainstay replica status` and `mainstay failover` show."""

    def get(self, _request: Request) -> Response:
        require(Action.ADMIN, self.actor)
        return Response(dict(self.kit.sites()))
