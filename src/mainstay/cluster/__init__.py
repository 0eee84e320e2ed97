"""Membership, roles, promotion, geo. A single node needs none of it; filled by the cluster issue."""
