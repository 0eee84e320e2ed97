"""How every process of a node begins.

It dies with its parent, takes its settings from the environment, logs under its name, arms failpoints,
opens the stores and sets up Django with the instance's secret key. Then it says that it is ready. Who needs
Django only for a first push sets it up after that, beside its work.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from setproctitle import setproctitle

from mainstay.boot import django_is_set_up, setup_django
from mainstay.boot.exits import EXIT_BUG, exit_code_of
from mainstay.boot.membership import secret_key
from mainstay.boot.settings import NodeSettings, load_for_child
from mainstay.boot.stores import Stores, opened_stores
from mainstay.foundation import failpoints, logs
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.settings import export_to_children, from_environment

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 65_536

log = logs.get_logger()


def begin(process: str) -> NodeSettings:
    """The part before the stores: settings, logs, failpoints, and the tie to the parent."""
    die_with_parent()
    show_name(process)
    settings = load_for_child()
    logs.configure(process=process, log_format=settings.log_format, level=settings.log_level)
    failpoints.arm(from_environment("FAILPOINTS") or "")
    raise_open_files_limit()
    return settings


@contextmanager
def begun(process: str, *, orm: bool = True) -> Iterator[Stores]:
    """A whole beginning; without `orm` Django is left to `set_up_orm_beside`.

    A known error ends the process with its sentence; a bug is logged once, here.
    """
    try:
        with opened_stores(begin(process)) as stores:
            export_to_children("SECRET_KEY", secret_key(stores))
            if orm or django_is_set_up():
                setup_django()
            yield stores
    except MainstayError as error:
        log.error("boot.process_failed", error=str(error))  # noqa: TRY400 - a known error, no trace
        sys.exit(exit_code_of(error))
    except Exception:
        log.exception("boot.process_crashed")
        sys.exit(EXIT_BUG)


def set_up_orm_beside() -> None:
    """In a thread, so that nobody waits for it; a first push that comes before it is done does wait."""
    threading.Thread(target=setup_django, name="orm", daemon=True).start()


def die_with_parent() -> None:
    """When the parent is killed, be killed too: nobody would be there to restart or to stop us.

    The kernel does it on Linux. A parent that died before the call is noticed by its changed id.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    expected = from_environment("PARENT_PID")
    if expected and os.getppid() != int(expected):
        os.kill(os.getpid(), signal.SIGKILL)


def show_name(process: str) -> None:
    """In `ps` and `top`: processes that were forked from one would all have its command line."""
    setproctitle(f"mainstay-{process}")


def raise_open_files_limit() -> None:
    """Use what the administrator allows: the usual 1,024 are few when every connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def say_ready() -> None:
    """Tell the supervisor that this process does its work now. Alone (no supervisor), it tells nobody."""
    descriptor = from_environment("READY_FD")
    if descriptor:
        os.write(int(descriptor), b"1")
        os.close(int(descriptor))


def inherited_socket(name: str) -> int:
    """The descriptor of a listening socket that the supervisor opened, such as `HTTP_FD`."""
    descriptor = from_environment(name)
    assert descriptor is not None, f"{name} is not set: start this process by `mainstay serve`"
    # Ours alone from here on: a git process that kept it would keep the port open, and nobody would answer.
    os.set_inheritable(int(descriptor), False)
    return int(descriptor)


def offered_socket(name: str) -> int | None:
    """The same for a socket that not every node has."""
    return inherited_socket(name) if from_environment(name) else None
