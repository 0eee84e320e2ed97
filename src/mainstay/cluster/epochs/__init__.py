"""Which site is the primary: a number that every promotion raises, and what a site knows of it.

`table` keeps the epoch in the database, `markers` in the object store, `site` the highest one ever seen in
`DATA/site.json`, which every write asks (`storage.database.fence`). `raising` gives a site the next number,
`sentinel` learns of numbers that others have, `role` says what a site is. Not here: the witness
(`cluster.witness`), and how a database is promoted.
"""

from mainstay.foundation.errors import Conflict


class Superseded(Conflict):
    """Another site has this epoch, or a higher one."""
