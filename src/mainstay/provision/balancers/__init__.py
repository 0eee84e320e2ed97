"""Configurations of load balancers, from a small description. Pure: a description in, a text out.

The same description gives the same text, byte for byte, so that a change of it can be looked at before it is
used. What the nodes must be told about their balancer stands at the head of each text.
"""
