"""Git over SSH: our own server, which can do nothing but Git.

`server` accepts connections and identifies keys, `session` is one channel, `conversation` is what is said on
it. There is no shell, no file transfer, no forwarding and no way to start a program.
"""
