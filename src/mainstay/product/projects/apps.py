"""The room as Django knows it."""

from typing import Any

from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    name = "mainstay.product.projects"
    label = "projects"

    def ready(self) -> None:
        """Hear of new and renamed people, in the transaction that makes or renames them."""
        from mainstay.product.accounts import events  # noqa: PLC0415 - Django's apps load before their models

        events.user_created.connect(_give_namespace, dispatch_uid="projects.give_namespace")
        events.user_renamed.connect(_move_namespace, dispatch_uid="projects.move_namespace")


def _give_namespace(user: Any, **_: Any) -> None:
    from mainstay.product.projects.groups import give_namespace  # noqa: PLC0415 - models need loaded apps

    give_namespace(user)


def _move_namespace(user: Any, **_: Any) -> None:
    from mainstay.product.projects.groups import move_namespace_of  # noqa: PLC0415 - same

    move_namespace_of(user)
