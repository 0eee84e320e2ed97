"""For requests that must arrive where they were sent, or not at all."""

from urllib.request import HTTPRedirectHandler


class NoRedirect(HTTPRedirectHandler):
    """A POST that is redirected would arrive as a GET; say where it was sent instead."""

    def redirect_request(self, *_: object) -> None:
        return None
