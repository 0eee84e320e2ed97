"""Maintenance mode: one decree in the database, known to every process of every node within two seconds.

`state` is what was decreed, `decisions` what it means for a request, `routes` what a request is about,
`switch` how the decree changes, `lookout` how a process keeps up with it.

Whoever opens a new door has nothing to remember for HTTP: `boot.entrance` asks for every request, and what no
table knows is a write if it is not a GET. A door that is not HTTP asks `Lookout.check` before it reads.
"""
