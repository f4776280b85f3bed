"""Search for the best merge."""

from evomerge.run import search

__all__ = ["search"]
