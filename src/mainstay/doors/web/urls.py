"""The web door's paths. `anything_else` comes last in the whole program."""

from django.urls import URLPattern, path, re_path

from mainstay.doors.web import views

urlpatterns: list[URLPattern] = [
    path("", views.front),
    re_path(r"^(?P<path>.+)$", views.anything_else),
]
