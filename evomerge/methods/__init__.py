"""Merge arithmetic: tensors in, tensor out.

A method is statistics (whole-tensor reductions, computed once), coefficients (a few numbers from settings and
statistics) and combine (one elementwise pass over blocks). This room knows tensors and numbers; it refuses to know
files, models, layers, recipes and YAML.
"""

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.methods.core._linear_combination import LINEAR, SLERP, TASK_ARITHMETIC
from evomerge.methods.core._merge import (
    BLOCK,
    block_size,
    merge_into,
    working_dtype,
)
from evomerge.methods.core._method import (
    Inputs,
    Method,
    Parameter,
    Settings,
    Value,
    Variant,
)
from evomerge.methods.core._scratch import Scratch
from evomerge.methods.core._sparse_methods import SPARSE
from evomerge.methods.core._spherical import KARCHER, MULTISLERP, NUSLERP
from evomerge.methods.core._swap import ARCEE_FUSION, NEARSWAP
from evomerge.methods.model_stock import MODEL_STOCK
from evomerge.methods.passthrough import PASSTHROUGH
from evomerge.methods.ram import RAM, RAMPLUS_TL
from evomerge.methods.sce import SCE
from evomerge.methods.statistics._tables import (
    GRID,
    Statistics,
    StatisticsKeeper,
    StatisticsLocked,
    load_kernels,
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *(LINEAR, SLERP, NUSLERP, MULTISLERP, KARCHER),
        *(TASK_ARITHMETIC, *SPARSE, SCE, RAM, RAMPLUS_TL),
        *(MODEL_STOCK, NEARSWAP, ARCEE_FUSION, PASSTHROUGH),
    )
}


def get(name: str) -> Method:
    """Return the method called `name`.

    Raises:
        InvalidInput: there is none; the message names the closest.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise InvalidInput(
            f'unknown merge method "{name}"; known are {", ".join(METHODS)}.{did_you_mean(name, METHODS)}'
        ) from None


__all__ = [
    "BLOCK",
    "GRID",
    "METHODS",
    "Inputs",
    "Method",
    "Parameter",
    "Scratch",
    "Settings",
    "Statistics",
    "StatisticsKeeper",
    "StatisticsLocked",
    "Value",
    "Variant",
    "block_size",
    "get",
    "load_kernels",
    "merge_into",
    "working_dtype",
]
