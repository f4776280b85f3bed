"""What a merge method is, the block-wise pass that runs one, and the arithmetic that several methods share.

Method files import from here. Must not import method files, or anything of evomerge outside `methods` but errors.
"""

from evomerge.methods.core._absent import BASE, AbsentRule, copy_only, merge_present
from evomerge.methods.core._combination import Combination, FiberCombination, Linear
from evomerge.methods.core._derivatives import Direction, derivatives, directions
from evomerge.methods.core._linear_combination import (
    LAMBDA,
    SHARE,
    SMALLEST_SUM,
    WEIGHT,
    LinearCombination,
    by_fiber,
    normalize,
    scaled,
)
from evomerge.methods.core._merge import (
    BLOCK_ELEMENTS,
    DEVICE_BLOCK_ELEMENTS,
    block_size,
    kernels_loaded,
    merge_blocks,
    merge_into,
    working_dtype,
)
from evomerge.methods.core._method import Contributions, Method
from evomerge.methods.core._random_mask import MagnitudeRanks, mask_keys, ranks_of, uniform_bits
from evomerge.methods.core._records import (
    Block,
    Inputs,
    Parameter,
    Settings,
    Value,
    Variant,
)
from evomerge.methods.core._scratch import Scratch
from evomerge.methods.core._sparsify import (
    RESCALE_BY,
    SIGN_ELECTION,
    SparseMethod,
    sparse_parameters,
)
from evomerge.methods.core._spherical import COLLINEAR, Span, gram_of_averaged, on_base

__all__ = [
    "BASE",
    "BLOCK_ELEMENTS",
    "COLLINEAR",
    "DEVICE_BLOCK_ELEMENTS",
    "LAMBDA",
    "RESCALE_BY",
    "SHARE",
    "SIGN_ELECTION",
    "SMALLEST_SUM",
    "WEIGHT",
    "AbsentRule",
    "Block",
    "Combination",
    "Contributions",
    "Direction",
    "FiberCombination",
    "Inputs",
    "Linear",
    "LinearCombination",
    "MagnitudeRanks",
    "Method",
    "Parameter",
    "Scratch",
    "Settings",
    "Span",
    "SparseMethod",
    "Value",
    "Variant",
    "block_size",
    "by_fiber",
    "copy_only",
    "derivatives",
    "directions",
    "gram_of_averaged",
    "kernels_loaded",
    "mask_keys",
    "merge_blocks",
    "merge_into",
    "merge_present",
    "normalize",
    "on_base",
    "ranks_of",
    "scaled",
    "sparse_parameters",
    "uniform_bits",
    "working_dtype",
]
