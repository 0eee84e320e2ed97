"""Who may do what: a vocabulary and pure decisions.

`actors` says who asks, `roles` how much they are, `policy` decides. A decision reads nothing but its
arguments and gives its reason.
"""
