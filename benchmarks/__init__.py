"""Mainstay against what people would otherwise serve Git with, on one machine in alternating rounds.

`make bench` runs it. Peers: nginx + fcgiwrap + `git http-backend`, and OpenSSH. Client and server share
the machine, whose speed drifts: only ratios of medians from the same run mean something.
"""
