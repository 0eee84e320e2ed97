"""The same question as `registers`, by trying every order: exponential, and obviously right.

One register. A state is (which operations are done, which value is there); an operation may go next if no
other that is not done had ended before it began. Source: Wing and Gong, "Testing and verifying concurrent
objects", 1993, with the memory of states that Lowe (2017) adds.
"""

from collections.abc import Sequence

from support.chaos.history import ABSENT, Operation, Read, Write

OPERATIONS_MAX = 14


def is_linearizable(operations: Sequence[Operation], initial: str = ABSENT) -> bool:
    assert len(operations) <= OPERATIONS_MAX, "this takes for ever"
    ends = [each.until_s if isinstance(each, Write) else each.return_s for each in operations]
    must = {
        at for at, each in enumerate(operations) if not (isinstance(each, Write) and each.verdict == "info")
    }
    seen: set[tuple[frozenset[int], str]] = set()
    stack = [(frozenset[int](), initial)]
    while stack:
        state = stack.pop()
        if state in seen:
            continue
        seen.add(state)
        done, value = state
        if must <= done:
            return True
        left = [at for at in range(len(operations)) if at not in done]
        first_end_s = min((ends[at] for at in left), default=0.0)
        next_ones = [at for at in left if operations[at].call_s <= first_end_s]
        stack += [
            (done | {at}, after) for at in next_ones if (after := _step(operations[at], value)) is not None
        ]
    return False


def _step(operation: Operation, value: str) -> str | None:
    """The value after the operation, or None if it cannot have gone like this."""
    if isinstance(operation, Read):
        return value if operation.value == value else None
    if operation.verdict == "refused":
        return value
    if operation.verdict == "fail":
        return value if value != operation.old else None
    return operation.new if value == operation.old else None
