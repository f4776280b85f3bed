"""A merge method and an optimizer, found by evomerge through entry points."""
