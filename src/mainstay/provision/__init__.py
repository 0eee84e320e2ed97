"""Generators of other people's infrastructure (AWS first). Empty until the issue that fills it."""
