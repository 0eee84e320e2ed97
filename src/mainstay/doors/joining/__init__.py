"""The door for a machine that wants to become a node: one address, one token, one sealed answer."""
