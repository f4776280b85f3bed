"""Whether a config can describe the blocks that a recipe puts in a row; if not, the model would load half random."""

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.checkpoint import Model, parameter_map
from evomerge.engine._plan_records import TensorPlan
from evomerge.errors import MergeFailed


def check_stack(
    config: Mapping[str, Any], tensors: Sequence[TensorPlan], source: Model, order: Sequence[int]
) -> str | None:
    """Hold the tensors of a stack against what transformers makes of its config: none missing, none without a place.

    Args:
        config: the result's config.json.
        tensors: of the result.
        source: the model that the config comes from.
        order: for each block of the result, which of the source's blocks it stands for.

    Returns:
        A note where that cannot be known, as the family is not transformers' or does not load its own files whole.

    Raises:
        MergeFailed: a tensor has no place in the model that the config describes, or a place is left empty.
    """
    if list(order) == list(range(source.layout.num_layers)):
        return None
    own = _misfit(source.config, {name: info.shape for name, info in source.tensors.items()})
    if own is not None:
        return f"the stack is not held against the model that transformers makes of its config: {source.name}: {own}"
    misfit = _misfit(config, {tensor.name: tensor.shape for tensor in tensors})
    if misfit is None:
        return None
    raise MergeFailed(
        f"the config of a {source.model_type} cannot describe these blocks in this order: {misfit}; where the kind "
        "or the shape of blocks follows from their number, keep the blocks where they are"
    )


def _misfit(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return what does not fit between a config and tensors of these shapes, or None."""
    try:
        return parameter_map(config).fit(shapes).problem
    except MergeFailed as error:
        return str(error)
