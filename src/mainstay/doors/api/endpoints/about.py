"""What this server is."""

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.doors.api.endpoint import Endpoint
from mainstay.doors.api.kit import API_VERSION


class Version(Endpoint):
    """The version of GitLab whose API this is: clients compare it to decide what they may ask for."""

    accepted_scopes = frozenset({"read_user"})

    def get(self, _request: Request) -> Response:
        return Response({"version": API_VERSION, "revision": self.kit.revision})


class Metadata(Endpoint):
    accepted_scopes = frozenset({"read_user"})

    def get(self, _request: Request) -> Response:
        kas = {"enabled": False, "externalUrl": None, "externalK8sProxyUrl": None, "version": None}
        shape = {"version": API_VERSION, "revision": self.kit.revision, "kas": kas, "enterprise": False}
        return Response(shape)
