"""One test asks for every route of the API, whose modules need Django's registry."""

from mainstay.boot import setup_django

setup_django()
