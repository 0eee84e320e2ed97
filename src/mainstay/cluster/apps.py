"""The room as Django knows it."""

from django.apps import AppConfig


class ClusterConfig(AppConfig):
    name = "mainstay.cluster"
    label = "cluster"
