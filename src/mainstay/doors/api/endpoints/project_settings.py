"""The settings of a project as parameters name them."""

import json
import re
from typing import Any

from mainstay.doors.api.errors import WrongField
from mainstay.doors.api.parameters import Parameters, WrongParameter
from mainstay.doors.api.shapes.projects import FEATURES

_LEVELS = ("disabled", "private", "enabled", "public")
_OLD_FLAGS = {"jobs": "builds"}
_BOOLEANS = (
    "only_allow_merge_if_pipeline_succeeds",
    "remove_source_branch_after_merge",
    "lfs_enabled",
    "shared_runners_enabled",
)
_TOPICS_MAX = 50


def settings_in(parameters: Parameters, *, features: str = "{}") -> dict[str, Any]:
    """The settings that were sent. `features` is what the project has so far, as JSON."""
    settings: dict[str, Any] = {}
    for name in _BOOLEANS:
        value = parameters.maybe_boolean(name)
        if value is not None:
            settings[name] = value
    settings |= _choices(parameters)
    topics = parameters.texts("topics")
    if topics is None:
        topics = parameters.texts("tag_list")
    if topics is not None:
        settings["topics"] = json.dumps(topics[:_TOPICS_MAX])
    if "ci_config_path" in parameters:
        settings["ci_config_path"] = (parameters.maybe_text("ci_config_path") or "")[:255]
    chosen = _features(parameters)
    if chosen:
        settings["features"] = json.dumps({**json.loads(features), **chosen})
    return settings


def description_in(parameters: Parameters) -> str | None:
    """None when none was sent; null and empty both mean that there shall be none."""
    return (parameters.maybe_text("description") or "") if "description" in parameters else None


def check_creatable(parameters: Parameters) -> None:
    """Refuse, in one sentence each, what this server does not do."""
    if parameters.maybe_text("import_url"):
        raise WrongField("import_url", "is not supported: create the project and push to it")
    if (parameters.maybe_text("repository_object_format") or "sha1") != "sha1":
        raise WrongField("repository_object_format", "is not supported: repositories use sha1 here")


def name_and_path(parameters: Parameters) -> tuple[str, str]:
    """Either is made from the other when it is missing."""
    name, path = parameters.maybe_text("name"), parameters.maybe_text("path")
    if not name and not path:
        raise WrongParameter("name, path are missing, at least one parameter must be provided")
    return name or path or "", path or _path_from(name or "")


def _path_from(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-").lower() or "project"


def _choices(parameters: Parameters) -> dict[str, str]:
    chosen = {
        "merge_method": parameters.maybe_choice("merge_method", ("merge", "rebase_merge", "ff")),
        "squash_option": parameters.maybe_choice(
            "squash_option", ("never", "always", "default_on", "default_off")
        ),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _features(parameters: Parameters) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for feature in (*FEATURES, *_OLD_FLAGS):
        flag = parameters.maybe_boolean(f"{feature}_enabled")
        if flag is not None:
            chosen[_OLD_FLAGS.get(feature, feature)] = "enabled" if flag else "disabled"
    for feature in FEATURES:
        level = parameters.maybe_choice(f"{feature}_access_level", _LEVELS)
        if level is not None:
            chosen[feature] = level
    return chosen
