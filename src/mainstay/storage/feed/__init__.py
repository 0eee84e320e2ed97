"""What the object store of this machine got, in order: so that other sites can have it, too.

`classes` is the one registry of all that is ever stored. `log` is the feed itself: a file of lines that every
process of the node appends to. `store` is the object store that does so.
"""
