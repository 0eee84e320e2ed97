"""A process to be born from a nursery: it says what it finds, and then does as it is told."""

import json
import os
import sys
import threading
import time
from pathlib import Path

IMPORTED_BY = os.getpid()


def main() -> None:
    from django.conf import settings

    from mainstay.boot import django_is_set_up, setup_django

    was_set_up = django_is_set_up()
    setup_django()
    found = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "imported_by": IMPORTED_BY,
        "threads": threading.active_count(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("MAINSTAY_")},
        "was_set_up": was_set_up,
        "secret_key": settings.SECRET_KEY,
        "open": sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir()),
    }
    os.write(int(os.environ["MAINSTAY_OUT_FD"]), json.dumps(found).encode())
    os.close(int(os.environ["MAINSTAY_OUT_FD"]))
    if os.environ.get("MAINSTAY_THEN") == "stay":
        time.sleep(60)
    sys.exit(int(os.environ.get("MAINSTAY_CODE", "0")))
