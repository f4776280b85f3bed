"""Compiled forms of the passes over a tensor; each gives the bits of the torch form."""
