"""The addresses that people type, worked out from the settings."""

from urllib.parse import urlsplit

from mainstay.boot.settings import NodeSettings

_SSH_PORT = 22
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - a comparison


def http_url(settings: NodeSettings) -> str:
    """The external URL, or how to reach this node from this machine."""
    return settings.external_url or f"http://{_host_of(settings)}:{settings.http.port}"


def ssh_clone_url(settings: NodeSettings, path: str) -> str:
    """The address of the project at `path`; the short form where the port is the usual one."""
    host, port = ssh_address(settings)
    host = f"[{host}]" if ":" in host else host or _host_of(settings)
    return f"git@{host}:{path}.git" if port == _SSH_PORT else f"ssh://git@{host}:{port}/{path}.git"


def ssh_address(settings: NodeSettings) -> tuple[str, int]:
    """Host and port that people use; the host is empty when the settings do not say."""
    if settings.external_ssh:
        return settings.external_ssh.host, settings.external_ssh.port
    return urlsplit(settings.external_url).hostname or "", settings.ssh.port


def _host_of(settings: NodeSettings) -> str:
    host = settings.http.host
    shown = "localhost" if host in _EVERYWHERE else host
    return f"[{shown}]" if ":" in shown else shown
