"""How long a lease is, and how long its holder uses it.

The holder counts from before it asked, the others from when the record changed, which is later; so the
holder's time begins first. It ends first when `usable_s` of a slow clock is over before `term_s` of a fast
one:

    usable_s / (1 - DRIFT) < term_s / (1 + DRIFT)

`DRIFT` is far more than the 0.05 % by which the kernel adjusts a clock at most. What it cannot cover is a
machine whose clocks stand still while it does not run and go on when it does (a paused virtual machine):
then the synchronous replica, which confirms no commit of a primary it has replaced, is what keeps a push from
being acknowledged.
"""

from dataclasses import dataclass
from typing import Final

from mainstay.foundation.errors import Invalid

DRIFT: Final = 0.01
"""The rate of a clock is within one hundredth of the true one."""


class BadTerms(Invalid):
    """With these lengths two sites could write at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Of one installation; the term travels in the record."""

    term_s: float = 10.0
    """Unchanged for so long, the record may be taken over."""
    usable_s: float = 7.5
    """The holder stops so long after it asked for the renewal that was last granted."""
    renew_every_s: float = 1.5

    def __post_init__(self) -> None:
        if self.usable_s * (1 + DRIFT) >= self.term_s * (1 - DRIFT):
            raise BadTerms(
                f"a lease of {self.term_s} s may be used for less than"
                f" {self.term_s * (1 - DRIFT) / (1 + DRIFT):.2f} s, not for {self.usable_s} s"
            )
        if not 0 < self.renew_every_s * 2 <= self.usable_s:
            raise BadTerms("a lease is renewed at least twice before it ends")
