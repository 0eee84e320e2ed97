"""The composition root: settings become stores, stores become servers, in start order.

Nothing below imports this room; here, and only here, the parts are put together.
"""

import sys

from mainstay.foundation.settings import from_environment, select_django_settings


def setup_django() -> None:
    """Make Django's ORM usable in this process. Settings come from the environment: export them first.

    In a process that was forked it is usable already; then the secret key is all that is new.
    """
    select_django_settings("mainstay.boot.django_settings")
    import django  # noqa: PLC0415 - half a second that only processes with an ORM pay
    from django.conf import settings  # noqa: PLC0415 - same

    django.setup()
    key = from_environment("SECRET_KEY")
    if key is not None:
        settings.SECRET_KEY = key


def django_is_set_up() -> bool:
    """Whether this process was forked from one that had done so, or has done so itself."""
    return "django.apps" in sys.modules and sys.modules["django.apps"].apps.ready
