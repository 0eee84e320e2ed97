"""One transaction of the product: what is written by ORM and what the ledger writes commit together."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError

from mainstay.foundation.errors import Conflict
from mainstay.storage.database import ConstraintBroken, Transaction
from mainstay.storage.database.django import DjangoDatabase, raise_away


class Taken(Conflict):
    """Something else already has this name, address or fingerprint."""


class StillInUse(Conflict):
    """Something depends on what was to be deleted."""


@contextmanager
def writing(*, taken: str = "somebody else wrote the same at the same time") -> Iterator[Transaction]:
    """Commit at the end of the block, roll back when it raises.

    A broken unique constraint raises `Taken(taken)`: the database is the judge, whatever was looked up
    before.
    """
    try:
        with DjangoDatabase().write() as transaction:
            yield transaction
    except ProtectedError as error:
        kept = ", ".join(sorted({str(each) for each in error.protected_objects})[:5])
        raise StillInUse(f"still in use by {kept}") from error
    except (IntegrityError, ConstraintBroken) as error:
        raise Taken(taken) from error
    except (OperationalError, InterfaceError) as error:
        raise_away(error)
