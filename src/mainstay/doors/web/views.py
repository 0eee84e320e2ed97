"""The web process's own pages: the front page, `go get`, and errors."""

from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from django.http import HttpRequest, HttpResponse

from mainstay.doors.web.closed import HEADER as MAINTENANCE
from mainstay.doors.web.closed import banner_html
from mainstay.doors.web.pages import STYLE, error_answer, front_page, go_import_page
from mainstay.foundation.settings import from_environment

View = Callable[..., HttpResponse]

_GO_SEGMENTS_MIN = 2
_GO_SEGMENTS_MAX = 24
_SSH_PORT = "22"


def front(request: HttpRequest) -> HttpResponse:
    """`/`."""
    host = _external_url(request)
    ssh = _ssh_url(urlsplit(host).hostname or "localhost")
    notice = banner_html(request.headers.get(MAINTENANCE, ""))
    return HttpResponse(front_page(http_url=host, ssh_url=ssh, notice=notice))


def style(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """The style sheet of this version."""
    kept = {"Cache-Control": "public, max-age=31536000, immutable"}
    return HttpResponse(STYLE, content_type="text/css; charset=utf-8", headers=kept)


def anything_else(request: HttpRequest, path: str) -> HttpResponse:
    """`go get` asks any path below a project; everybody else is told that there is nothing.

    The answer to `go get` is the same whether a project exists or not, so it tells nobody anything; and a
    path of one segment can be no project.
    """
    segments = [unquote(segment) for segment in path.strip("/").split("/")]
    if request.GET.get("go-get") == "1" and _may_be_a_project(segments):
        url = _external_url(request)
        root = "/".join(segments).removesuffix(".git")
        return HttpResponse(go_import_page(host=urlsplit(url).netloc, path=root, http_url=url))
    return error(request, 404)


def error(request: HttpRequest, status: int) -> HttpResponse:
    body, content_type = error_answer(request.path, request.headers.get("Accept", "").encode(), status)
    return HttpResponse(body, status=status, content_type=content_type)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    return error(request, 404)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    return error(request, 400)


def server_error(request: HttpRequest) -> HttpResponse:
    return error(request, 500)


def _may_be_a_project(segments: list[str]) -> bool:
    return _GO_SEGMENTS_MIN <= len(segments) <= _GO_SEGMENTS_MAX and all(
        segment and segment.isprintable() and segment not in (".", "..") for segment in segments
    )


def _external_url(request: HttpRequest) -> str:
    return from_environment("EXTERNAL_URL") or f"{request.scheme}://{request.get_host()}"


def _ssh_url(host: str) -> str:
    external = from_environment("EXTERNAL_SSH")
    announced, _, port = (external or from_environment("SSH") or "127.0.0.1:2222").rpartition(":")
    host = announced.strip("[]") if external else host
    bracketed = f"[{host}]" if ":" in host else host
    return f"ssh://git@{bracketed}" if port == _SSH_PORT else f"ssh://git@{bracketed}:{port}"
