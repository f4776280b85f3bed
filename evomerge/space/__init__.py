"""What may be searched: a space turns a point (numbers) into a recipe (plain data), and back.

Values snap to a grid when decoded, so tables of statistics stay small, duplicates are caught, and decoding what was
encoded is exact. `merge.py` holds the spaces of whole-model merges, `stack.py` those of layer stacks, `data_flow.py`
those of paths through the blocks of all parents. This package must not open models, build tensors or import optimizers.

A space of one's own is an object with the members of `Space`. A kind of space that search files can name
(`space: {kind: NAME, ...}`) is a `SpaceKind`, given to `register` or named by an entry point of the group
`evomerge.spaces`. The contract is `evomerge.testing.spaces.SpaceContract`; every space here passes it.
"""

from evomerge.space._protocol import BuildSpace, Space, SpaceKind
from evomerge.space._references import BASELINE_WEIGHTS, Reference, reference_point, references
from evomerge.space._registry import (
    KINDS,
    build_space,
    get_kind,
    kind_names,
    read_space,
    register,
    shipped_spaces,
    space_schema,
)
from evomerge.space._schema import SpaceEntry
from evomerge.space.data_flow import DataFlowSpace
from evomerge.space.hybrid import HybridSpace
from evomerge.space.merge import MergeSpace
from evomerge.space.stack import StackSpace

__all__ = [
    "BASELINE_WEIGHTS",
    "KINDS",
    "BuildSpace",
    "DataFlowSpace",
    "HybridSpace",
    "MergeSpace",
    "Reference",
    "Space",
    "SpaceEntry",
    "SpaceKind",
    "StackSpace",
    "build_space",
    "get_kind",
    "kind_names",
    "read_space",
    "reference_point",
    "references",
    "register",
    "shipped_spaces",
    "space_schema",
]
