"""Lead clients to another site: names in DNS, an address that moves, a hook of the operator's own.

Each way is told what is wanted and says in one sentence what became of it. Nothing here knows who is the
primary, and no wrong way of clients can cost data: a site that is not the primary forwards or refuses.
"""
