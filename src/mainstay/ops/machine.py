"""Numbers of this machine: room on its disks, and how long its certificates last."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import gauge

log = get_logger()

FREE = gauge("disk_free_bytes", "Room on the disk of a directory.", ["directory"], across="livemostrecent")
SIZE = gauge("disk_size_bytes", "Size of the disk of a directory.", ["directory"], across="livemostrecent")
EXPIRES = gauge(
    "certificate_expires_timestamp_seconds",
    "When a certificate of this node ends: `https` for people, `node` for other nodes.",
    ["certificate"],
    across="livemostrecent",
)


def note(*, directories: Mapping[str, Path], certificates: Mapping[str, Path]) -> None:
    """Keep the metrics; what is not there is left out."""
    for name, directory in directories.items():
        if directory.exists():
            usage = shutil.disk_usage(directory)
            FREE.labels(name).set(usage.free)
            SIZE.labels(name).set(usage.total)
    for name, file in certificates.items():
        expires_s = _expires_s(file)
        if expires_s is not None:
            EXPIRES.labels(name).set(expires_s)


def _expires_s(file: Path) -> float | None:
    """The first certificate of a PEM file is the node's own; the others lead to its authority."""
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("machine.certificate_not_read", certificate=str(file), because=str(error))
        return None
    return certificates[0].not_valid_after_utc.timestamp()
