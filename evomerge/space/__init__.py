"""What may be searched: a space turns a point (numbers) into a recipe (plain data), and back.

Values snap to a grid when decoded, so tables of statistics stay small, duplicates are caught, and decoding what was
encoded is exact. This room refuses to open models, to build tensors and to know how points are proposed.
"""

from evomerge.space._load import (
    Space,
    build_space,
    read_space,
    shipped_spaces,
)
from evomerge.space._merge_space import MergeSpace
from evomerge.space._references import Reference, references
from evomerge.space._schema import SpaceEntry, space_schema
from evomerge.space._stack_space import StackSpace

__all__ = [
    "MergeSpace",
    "Reference",
    "Space",
    "SpaceEntry",
    "StackSpace",
    "build_space",
    "read_space",
    "references",
    "shipped_spaces",
    "space_schema",
]
