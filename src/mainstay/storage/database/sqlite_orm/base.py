"""Django's connection to SQLite, which asks the fence at the beginning and at both sides of the end of each
transaction, and at each statement outside of one.
"""

from typing import Any

from django.db.backends.sqlite3 import base

from mainstay.storage.database.fence import SiteFenced, fence_named
from mainstay.storage.database.orm.fencing import asking_in_autocommit


class DatabaseWrapper(base.DatabaseWrapper):
    """`settings_dict["FENCE"]` is the data directory of the site; empty: no fence."""

    def __init__(self, settings_dict: dict[str, Any], alias: str = "default") -> None:
        super().__init__(settings_dict, alias)
        self._fence = fence_named(settings_dict.get("FENCE", ""))
        self.execute_wrappers.append(asking_in_autocommit(self._fence))

    def _start_transaction_under_autocommit(self) -> None:
        self._fence.check()
        super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs leave it out

    def _commit(self) -> None:
        if self.connection is None:
            return
        try:
            self._fence.check()
        except SiteFenced:
            self.connection.rollback()  # Django would do so for errors of its own only
            raise
        super()._commit()  # type: ignore[misc]  # the stubs leave it out
        self._fence.confirm()
