"""How much somebody is in a project or group. The numbers are GitLab's access levels."""

from enum import IntEnum


class Role(IntEnum):
    NONE = 0
    GUEST = 10
    REPORTER = 20
    DEVELOPER = 30
    MAINTAINER = 40
    OWNER = 50


class Visibility(IntEnum):
    """Who may know that it exists. The numbers order them; the names are the API's."""

    PRIVATE = 0
    INTERNAL = 10
    PUBLIC = 20
