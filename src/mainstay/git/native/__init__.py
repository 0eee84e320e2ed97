"""The only place that starts a git process.

`run` blocks and collects, `start`/`stop` stream; `commands` says what may run at all.
"""
