"""For tests, ours and others': tiny models, fakes that misbehave, and contract test classes.

This room is never imported by the rest of the package.
"""
