"""The services of the Git protocol, by the names that clients use."""

from enum import StrEnum


class Service(StrEnum):
    UPLOAD_PACK = "git-upload-pack"
    """Clone and fetch."""
    RECEIVE_PACK = "git-receive-pack"
    """Push."""
