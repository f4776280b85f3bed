"""The Python API: what the commands do, as functions, one file a verb. `import evomerge` gives them all.

It joins what the packages below offer and decides nothing of its own. Paths are a `Path` or a `str` everywhere; a
relative one starts at the working directory. Must not import `cli`.
"""
