"""Mainstay: a self-hosted Git platform that stays up."""

__version__ = "0.1.0"
