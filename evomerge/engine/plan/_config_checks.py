"""Whether a config can describe the blocks that a recipe puts in a row; if not, the model would load half random."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evomerge.checkpoint import Model
from evomerge.engine._parameter_map import ParameterMap, meta_model
from evomerge.errors import MergeFailed


def check_order(config: Mapping[str, Any], names: Iterable[str], source: Model, order: Sequence[int]) -> None:
    """Compare a result's tensors with what transformers makes of its config.

    Blocks of one kind fit in any order. Families that transformers does not know, or whose files it reads by rules
    that are not known here, pass.

    Args:
        config: the result's config.json.
        names: the result's tensors.
        source: the model that the config comes from.
        order: for each block of the result, which of the source's blocks it stands for.

    Raises:
        MergeFailed: a tensor has no place in the model that the config describes, or a place is left empty.
    """
    kinds = {frozenset(suffixes) for suffixes in source.outline.blocks.values()}
    if len(kinds) < 2 or list(order) == list(range(source.layout.num_layers)):
        return
    misfit = _misfit(config, names)
    if misfit is None or _misfit(source.config, source.tensors) is not None:
        return
    raise MergeFailed(
        f"the config of a {source.model_type} cannot describe these blocks in this order: {misfit}; in this family a "
        "block's kind follows from its number, so keep the kinds where they are"
    )


def _misfit(config: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """Return what does not fit between a config and tensors of these names, or None."""
    try:
        parameters = ParameterMap(meta_model(config))
    except MergeFailed as error:
        return str(error)
    parts = {name: parameters.locate(name) for name in names}
    unmatched = next((name for name, part in parts.items() if part is None), None)
    if unmatched:
        return f"it has no place for {unmatched}"
    empty = parameters.unfilled(part for part in parts.values() if part)
    return f"no block has {empty}" if empty else None
