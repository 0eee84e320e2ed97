"""Git as formats and protocol: bytes in, events out, no socket, no database.

`protocol/` is sans-I/O; `native/` is the only place that starts a git process.
"""
