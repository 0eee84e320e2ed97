"""The fence for statements that Django sends outside of a transaction, each of which commits by itself."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mainstay.storage.database.fence import Fence

_CHANGES_NOTHING = re.compile(
    r"\s*(SELECT|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|SET|SHOW|PRAGMA|EXPLAIN|DECLARE|FETCH|CLOSE)\b",
    re.IGNORECASE,
)
"""What is not known to be one of these counts as a write."""

Execute = Callable[..., Any]


def asking_in_autocommit(fence: Fence) -> Callable[[Execute, str, Any, bool, Mapping[str, Any]], Any]:
    """A wrapper for Django's `execute_wrappers`. In a transaction its beginning and its end ask."""

    def execute(run: Execute, sql: str, parameters: Any, many: bool, context: Mapping[str, Any]) -> Any:
        if context["connection"].in_atomic_block or _CHANGES_NOTHING.match(sql):
            return run(sql, parameters, many, context)
        fence.check()
        done = run(sql, parameters, many, context)
        fence.confirm()
        return done

    return execute
