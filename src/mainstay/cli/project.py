"""`mainstay project`: projects, for administrators at the machine."""

from pathlib import Path
from typing import Any

import click

from mainstay.access.actors import SYSTEM as BY_ITSELF
from mainstay.access.policy import Action
from mainstay.access.roles import Visibility
from mainstay.cli.frame import data_option, json_option, opened, show, table
from mainstay.cluster import labels
from mainstay.foundation.clock import iso8601

_visibility = click.Choice([level.name.lower() for level in Visibility])


@click.group
def command() -> None:
    """List and manage projects."""


@command.command
@click.argument("path")
@click.option("--name", default="", help="The name to show.")
@click.option("--description", default="")
@click.option("--visibility", type=_visibility, default="private", show_default=True)
@data_option
@json_option
def create(
    *, path: str, name: str, description: str, visibility: str, data: Path | None, as_json: bool
) -> None:
    """Create an empty project at PATH, such as ada/engine. Its group or user must be there."""
    with opened(data):
        from mainstay.product.projects import lookup, services  # noqa: PLC0415 - models need `setup_django`

        parent, _, segment = path.strip("/").rpartition("/")
        namespace = lookup.namespace_for(BY_ITSELF, parent, Action.CREATE_PROJECT)
        project = services.create_project(
            namespace,
            path=segment,
            name=name,
            description=description,
            visibility=Visibility[visibility.upper()],
            creator=namespace.owner,
            by=BY_ITSELF,
        )
        row = _row(project)
    show(row, as_json=as_json, text=f"project {row['path']} has the id {row['id']}")


@command.command("list")
@click.option("--under", default="", help="Only projects below this group or user.")
@data_option
@json_option
def list_projects(under: str, data: Path | None, as_json: bool) -> None:
    """List projects."""
    with opened(data):
        from mainstay.product.projects import lookup  # noqa: PLC0415 - models need `setup_django`

        projects = lookup.projects_visible_to(BY_ITSELF)
        if under:
            projects = projects.filter(full_path_lower__startswith=f"{under.strip('/').lower()}/")
        rows = [_row(project) for project in projects]
    head = ("id", "path", "visibility", "archived", "last_activity_at")
    show(rows, as_json=as_json, text=table(head, [[row[column] for column in head] for row in rows]))


@command.command
@click.argument("path")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@json_option
def delete(*, path: str, yes: bool, data: Path | None, as_json: bool) -> None:
    """Delete the project at PATH. Its packs stay in the object store for the restore window."""
    with opened(data):
        from mainstay.product.projects import lookup, services  # noqa: PLC0415 - models need `setup_django`

        project = lookup.project_for(BY_ITSELF, path.strip("/"), Action.DELETE_PROJECT)
        row = _row(project)
        if not yes:
            click.confirm(f"Delete {row['path']} with all its branches?", abort=True, err=True)
        services.delete_project(project, by=BY_ITSELF)
    show(row, as_json=as_json, text=f"project {row['path']} is deleted")


@command.command("place")
@click.argument("path")
@click.argument("label")
@data_option
@json_option
def place_project(path: str, label: str, data: Path | None, as_json: bool) -> None:
    """Let the nodes with LABEL serve the project at PATH, as long as one of them lives. `default`: any."""
    with opened(data):
        from mainstay.product.projects import lookup, services  # noqa: PLC0415 - models need `setup_django`

        project = lookup.project_for(BY_ITSELF, path.strip("/"), Action.READ_PROJECT)
        services.place_project(project, label, by=BY_ITSELF)
        row = {**_row(project), "repository_storage": label or labels.DEFAULT}
    show(row, as_json=as_json, text=f"project {row['path']} is served by nodes with the label {label}")


def _row(project: Any) -> dict[str, Any]:
    return {
        "id": project.id,
        "path": project.full_path,
        "name": project.name,
        "visibility": Visibility(project.visibility).name.lower(),
        "archived": project.archived,
        "repository_id": project.repository_id,
        "created_at": iso8601(project.created_at_ms),
        "last_activity_at": iso8601(project.last_activity_at_ms),
    }
