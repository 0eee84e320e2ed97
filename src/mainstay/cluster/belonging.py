"""To which instance a data directory belongs: `DATA/instance_id`, written when it joins or founds one."""

from pathlib import Path

from mainstay.foundation.private_files import replace_file


def remembered_instance(data: Path) -> str | None:
    """None before the first start."""
    try:
        return _file(data).read_text("ascii").strip() or None
    except FileNotFoundError:
        return None


def remember_instance(data: Path, instance: str) -> None:
    replace_file(_file(data), f"{instance}\n".encode("ascii"), durable=True)


def _file(data: Path) -> Path:
    return data / "instance_id"
