"""What Git clients and servers say to each other: bytes in, events and bytes out.

Nothing here reads, writes or waits. Input from clients is read at least as strictly as git reads it, so
that a request we checked means the same to the git process it may be handed to.
"""
