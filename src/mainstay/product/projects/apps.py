"""The room as Django knows it."""

from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    name = "mainstay.product.projects"
    label = "projects"
