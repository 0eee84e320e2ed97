"""Membership: which nodes there are, what they do, what they share, and where a repository is warm.

`nodes` keeps the list and its heartbeats, `joining` lets a machine in, `keyring` wraps the shared secrets,
`authority` says who a node is (TLS), `placement` prefers nodes for a repository. Nothing here decides
whether a push is true: the ledger does, and any node may ask it.
"""
