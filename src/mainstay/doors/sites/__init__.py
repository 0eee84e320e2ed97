"""The door for other sites: what this one has, what is new, and who has got how much of it."""
