"""Which door answers which path of the web process.

The API's endpoints get what they work with by name, so the routes are made when the stores are open: the
web process calls `open_doors` once, before its first request.
"""

from django.urls import URLPattern, URLResolver, include, path

from mainstay.doors.api.kit import Kit

urlpatterns: list[URLPattern | URLResolver] = []
handler400 = "mainstay.doors.web.views.bad_request"
handler404 = "mainstay.doors.web.views.not_found"
handler500 = "mainstay.doors.web.views.server_error"


def open_doors(kit: Kit) -> None:
    from mainstay.doors.api.urls import patterns  # noqa: PLC0415 - needs `setup_django` first

    assert not urlpatterns, "called once"
    urlpatterns.append(path("api/v4/", include(patterns(kit))))
    urlpatterns.append(path("", include("mainstay.doors.web.urls")))
