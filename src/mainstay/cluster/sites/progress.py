"""Which stretches of a feed are done: everything before one position, and some behind it.

Downloads end out of order. What counts for a site as a whole is the position before which nothing is missing;
a push that waits for its own objects need not wait for a larger one that began before it.
"""

from bisect import bisect_left

from mainstay.cluster.sites.positions import AHEAD_MAX


class Progress:
    """From a position on. For one thread, or under a lock."""

    def __init__(self, position: int) -> None:
        self.position = position
        """Everything before it is done."""
        self._ahead: list[tuple[int, int]] = []

    def done(self, start: int, end: int) -> None:
        """A stretch that is done now. Saying so again changes nothing."""
        start = max(start, self.position)
        if end <= start:
            return
        at = bisect_left(self._ahead, (start, end))
        while at > 0 and self._ahead[at - 1][1] >= start:
            at -= 1
            start, end = self._ahead[at][0], max(end, self._ahead.pop(at)[1])
        while at < len(self._ahead) and self._ahead[at][0] <= end:
            end = max(end, self._ahead.pop(at)[1])
        if start <= self.position:
            self.position = end
        else:
            self._ahead.insert(at, (start, end))

    @property
    def ahead(self) -> tuple[tuple[int, int], ...]:
        """The newest stretches behind the position: those that somebody may be waiting for."""
        return tuple(self._ahead[-AHEAD_MAX:])
