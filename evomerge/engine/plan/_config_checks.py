"""Whether a config can describe the blocks that a recipe puts in a row; if not, the model would load half random."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evomerge.checkpoint import Model
from evomerge.engine.live._empty import shape_of
from evomerge.engine.live._parameter_map import slot_of, unfilled
from evomerge.errors import MergeFailed


def check_order(config: Mapping[str, Any], names: Iterable[str], donor: Model, order: Sequence[int]) -> None:
    """Compare a result's tensors, whose blocks are `order` of the donor's, with what transformers makes of its config.

    Blocks of one kind fit in any order. Families that transformers does not know, or whose files it reads by rules
    that are not known here, pass.

    Raises:
        MergeFailed: a tensor has no place in the model that the config describes, or a place is left empty.
    """
    kinds = {frozenset(suffixes) for suffixes in donor.outline.blocks.values()}
    if len(kinds) < 2 or list(order) == list(range(donor.layout.num_layers)):
        return
    fault = _fault(config, names)
    if fault is None or _fault(donor.config, donor.tensors) is not None:
        return
    raise MergeFailed(
        f"the config of a {donor.model_type} cannot describe these blocks in this order: {fault}; in this family a "
        "block's kind follows from its number, so keep the kinds where they are"
    )


def _fault(config: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """Return what does not fit, or None."""
    try:
        model = shape_of(config)
    except MergeFailed as error:
        return str(error)
    known = dict(model.named_parameters(remove_duplicate=False))
    known |= {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if name not in known}
    shapes = {name: tensor.shape for name, tensor in known.items()}
    first: dict[int, str] = {}
    tied = {name: first.setdefault(id(tensor), name) for name, tensor in known.items()}
    slots = {name: slot_of(name, shapes, str(getattr(model, "base_model_prefix", ""))) for name in names}
    homeless = next((name for name, slot in slots.items() if slot is None), None)
    if homeless:
        return f"it has no place for {homeless}"
    empty = unfilled((slot for slot in slots.values() if slot), shapes, tied)
    return f"no block has {empty}" if empty else None
