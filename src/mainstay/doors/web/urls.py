"""The web door's paths. `anything_else` comes last in the whole program."""

from django.urls import URLPattern, path, re_path

from mainstay.doors.web import views
from mainstay.doors.web.pages import STYLE_PATH

urlpatterns: list[URLPattern] = [
    path("", views.front),
    path(STYLE_PATH.removeprefix("/"), views.style),
    re_path(r"^(?P<path>.+)$", views.anything_else),
]
