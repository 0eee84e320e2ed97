"""The sites, and the line between them: who there is, who gets in, and how objects come over.

`registry` is the list of sites, `admission` lets one in by a token, `passes` says who may speak, `identity`
is a site's own certificate. `positions` is how far each site is with the objects of the primary, `followers`
makes a push wait for those that must have them. `line` is the client's end of the line (the server's is
`doors.sites`), and `puller` keeps a replica's objects complete over it.
"""
