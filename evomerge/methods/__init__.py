"""Merge arithmetic: tensors in, tensor out. One method a file; `core` holds what they share.

A method is statistics (whole-tensor reductions, computed once), coefficients (a few numbers from settings and
statistics) and combine (one elementwise pass over blocks). To add one, subclass `Method` (or `LinearCombination`,
which needs coefficients alone), and `register` it or declare it as an entry point; `evomerge.testing.methods` tests it.

Knows tensors and numbers. Must not import recipe, checkpoint, engine or anything above them: no files, no models, no
layers, no YAML.
"""

from evomerge.methods._registry import (
    MERGEKIT_WORDS,
    built_in_names,
    get,
    is_parameter,
    names,
    register,
    registered,
    without_effect,
)
from evomerge.methods.core import (
    BASE,
    BLOCK_ELEMENTS,
    DEVICE_BLOCK_ELEMENTS,
    AbsentRule,
    Block,
    Combination,
    Contributions,
    Direction,
    Inputs,
    LinearCombination,
    Method,
    Parameter,
    Scratch,
    Settings,
    Value,
    Variant,
    block_size,
    derivatives,
    directions,
    kernels_loaded,
    merge_into,
    working_dtype,
)
from evomerge.methods.kernels.cpu import use_kernels
from evomerge.methods.statistics import (
    GRID,
    Statistics,
    StatisticsLocked,
    StatisticsStore,
    load_kernels,
)

__all__ = [
    "BASE",
    "BLOCK_ELEMENTS",
    "DEVICE_BLOCK_ELEMENTS",
    "GRID",
    "MERGEKIT_WORDS",
    "AbsentRule",
    "Block",
    "Combination",
    "Contributions",
    "Direction",
    "Inputs",
    "LinearCombination",
    "Method",
    "Parameter",
    "Scratch",
    "Settings",
    "Statistics",
    "StatisticsLocked",
    "StatisticsStore",
    "Value",
    "Variant",
    "block_size",
    "built_in_names",
    "derivatives",
    "directions",
    "get",
    "is_parameter",
    "kernels_loaded",
    "load_kernels",
    "merge_into",
    "names",
    "register",
    "registered",
    "use_kernels",
    "without_effect",
    "working_dtype",
]
