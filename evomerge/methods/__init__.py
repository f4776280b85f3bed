"""Merge arithmetic: tensors in, tensor out.

A method is statistics (whole-tensor reductions, computed once), coefficients (a few numbers from settings and
statistics) and combine (one elementwise pass over blocks). This room knows tensors and numbers; it refuses to know
files, models, layers, recipes and YAML.
"""

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.methods._combination import LINEAR, SLERP, TASK_ARITHMETIC
from evomerge.methods._merge import BLOCK, merge_into, working_dtype
from evomerge.methods._passthrough import PASSTHROUGH
from evomerge.methods._scratch import Scratch
from evomerge.methods._sparse_methods import SPARSE
from evomerge.methods._spec import Inputs, Method, Parameter, Settings, Value, Variant
from evomerge.methods._statistics import GRID, Statistics

METHODS: dict[str, Method] = {
    method.name: method for method in (LINEAR, SLERP, TASK_ARITHMETIC, *SPARSE, PASSTHROUGH)
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
    "Value",
    "Variant",
    "get",
    "merge_into",
    "working_dtype",
]
