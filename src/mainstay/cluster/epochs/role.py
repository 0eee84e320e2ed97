"""What a site is at this moment, and why."""

from dataclasses import dataclass
from typing import Literal

from mainstay.cluster.epochs.site import newer
from mainstay.storage.database.fence import Claim, Standing, refusal_for

Role = Literal["primary", "replica", "superseded"]


@dataclass(frozen=True, slots=True)
class SiteRole:
    role: Role
    reason: str


def decide_role(
    *,
    site_id: str,
    in_recovery: bool,
    own: Claim,
    highest: Claim,
    witness: Claim | None = None,
) -> SiteRole:
    """Say what a site is.

    `in_recovery` and `own` are what its database says, `highest` is what it has ever seen, `witness` whom the
    witness named last (None: there is no witness, or it is away). A server in recovery takes no writes,
    whatever else is true, so it makes a replica: of the primary with the highest epoch known.
    """
    newest = max((claim for claim in (own, highest, witness) if claim), key=lambda claim: claim.epoch)
    if in_recovery:
        return SiteRole("replica", f"its database follows {_whose(newest)}")
    # A lease is not a matter of roles: a primary without one is a primary that waits.
    seen = newer(highest, witness, me=site_id) if witness else highest
    refused = refusal_for(Standing(site_id, own, seen), None, boot="", now_s=0.0)
    if refused is not None:
        return SiteRole("superseded" if refused.is_final else "replica", refused.because)
    if not own.epoch:
        return SiteRole("primary", "its database takes writes, and there are no other sites")
    return SiteRole("primary", f"its database takes writes under epoch {own.epoch}, the highest one known")


def _whose(claim: Claim) -> str:
    if not claim.epoch:
        return "another one"
    return f"that of {claim.name or claim.site_id}, at epoch {claim.epoch}"
