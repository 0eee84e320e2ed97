"""The truth: immutable packs in an object store, and a ledger of refs and manifests.

Write order: object first, then one ledger transaction. Read order: the reverse.
Invariant: the manifest never names a pack that is not stored.
"""
