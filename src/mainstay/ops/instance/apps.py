"""The room as Django knows it."""

from django.apps import AppConfig


class InstanceConfig(AppConfig):
    name = "mainstay.ops.instance"
    label = "instance"
