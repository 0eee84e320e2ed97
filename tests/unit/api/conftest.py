"""The API's modules need Django's registry, though these tests touch no database."""

from mainstay.boot import setup_django

setup_django()
