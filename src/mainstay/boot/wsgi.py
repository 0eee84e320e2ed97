"""Django behind the data plane: give each request back its path, its client and its id.

Granian listens on a Unix socket that only this user can open, so the `X-Mainstay-…` headers are believed.
"""

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from mainstay.foundation.logs import bound

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Wsgi = Callable[[Environ, StartResponse], Iterable[bytes]]

CHUNKED_BYTES_MAX = 20 * 1024 * 1024
"""Of a body that does not say how long it is. One byte more is read, so that the application sees it is
too long and says so."""


def with_truth_restored(application: Wsgi) -> Wsgi:
    """Wrap Django's application."""

    def restored(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = environ.pop("HTTP_X_MAINSTAY_RAW_PATH", "/")
        environ["QUERY_STRING"] = environ.pop("HTTP_X_MAINSTAY_RAW_QUERY", "")
        environ["REMOTE_ADDR"] = environ.pop("HTTP_X_MAINSTAY_CLIENT_ADDRESS", "")
        environ["wsgi.url_scheme"] = environ.pop("HTTP_X_MAINSTAY_SCHEME", "http")
        if environ.pop("HTTP_TRANSFER_ENCODING", "") and not environ.get("CONTENT_LENGTH"):
            _measure_body(environ)
        with bound(request_id=environ.get("HTTP_X_REQUEST_ID", "")):
            return application(environ, start_response)

    return restored


def _measure_body(environ: Environ) -> None:
    """Django takes a body without a length for an empty one, so a chunked one is read here."""
    body = environ["wsgi.input"].read(CHUNKED_BYTES_MAX + 1)
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))


def load_application() -> Wsgi:
    """Call after `setup_django`."""
    from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415 - needs `setup_django` first

    return with_truth_restored(WSGIHandler())
