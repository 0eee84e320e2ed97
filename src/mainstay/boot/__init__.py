"""The composition root: settings become stores, stores become servers, in start order.

Nothing below imports this room; here, and only here, the parts are put together.
"""

from mainstay.foundation.settings import select_django_settings


def setup_django() -> None:
    """Make Django's ORM usable in this process. Settings come from the environment: export them first."""
    select_django_settings("mainstay.boot.django_settings")
    import django  # noqa: PLC0415 - half a second that only processes with an ORM pay

    django.setup()
