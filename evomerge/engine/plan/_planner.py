"""From a recipe and its opened parents to a plan. No tensor is read here."""

import torch

from evomerge.checkpoint import (
    Model,
    Parents,
    merged_config,
    set_vocabulary,
    untie,
)
from evomerge.engine._plan_records import Plan, TensorPlan
from evomerge.engine._tokenizer import Vocabulary, vocabulary
from evomerge.engine.plan._config_checks import check_order
from evomerge.engine.plan._nested import PlannedModel
from evomerge.engine.plan._output_order import OutputOrder
from evomerge.engine.plan._tensor import TensorPlanner
from evomerge.engine.plan._unused_settings import without_effect
from evomerge.errors import MergeFailed
from evomerge.recipe import Recipe

SHOWN = 5  # problems that one message lists


def make_plan(recipe: Recipe, parents: Parents) -> Plan:
    """Resolve a recipe against its parents. Merges that it refers to by name are planned first and join the parents.

    Raises:
        MergeFailed: tensors missing or of different shapes, layers out of range, parameters without a value, things
            that cannot be merged; the first few problems in one message.
    """
    for name, inner in recipe.merges.items():
        parents.name(name, inner.fingerprint, lambda name=name, inner=inner: _model(name, inner, parents))  # type: ignore[misc]
    walk = OutputOrder(recipe, parents)
    _fail_on([*_parts(recipe, parents), *walk.problems])
    words = vocabulary(recipe, parents)
    planner = TensorPlanner(recipe, parents, words.alignment)
    tensors = tuple(plan for place in walk.places() for plan in planner.plan(place))
    _fail_on([*walk.problems, *planner.problems])
    if not tensors:
        raise MergeFailed("the recipe describes a model without tensors")
    dtype = _main_dtype(tensors)
    layers = tuple(walk.layers())
    source = parents[recipe.config_source]
    config = merged_config(source, [(parents[ref], index) for ref, index in layers], dtype)
    _fit_config(config, source, walk, words)
    check_order(config, [tensor.name for tensor in tensors], source, [index for _, index in layers])
    notes = (*without_effect(recipe, tensors), *words.notes, *planner.notes)
    return Plan(recipe=recipe, tensors=tensors, layers=layers, dtype=dtype, config=config, notes=notes)


def _parts(recipe: Recipe, parents: Parents) -> list[str]:
    """Return the problem of layer ranges in a model that has two stacks of blocks."""
    donor = parents[recipe.config_source]
    ranged = any(source.layers is not None for part in recipe.slices for source in part.sources)
    if not (ranged and donor.config.get("is_encoder_decoder")):
        return []
    return [f"{donor.name} has an encoder and a decoder, so a layer_range is ambiguous; merge them whole, by models:"]


def _model(name: str, recipe: Recipe, parents: Parents) -> Model:
    try:
        return PlannedModel(name, make_plan(recipe, parents), parents)
    except MergeFailed as error:
        raise MergeFailed("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from None


def _fail_on(problems: list[str]) -> None:
    problems = list(dict.fromkeys(problems))
    if problems:
        more = len(problems) - SHOWN
        tail = [f"and {more} more like these"] if more > 0 else []
        raise MergeFailed("\n".join([*problems[:SHOWN], *tail]))


def _main_dtype(tensors: tuple[TensorPlan, ...]) -> torch.dtype:
    sizes: dict[torch.dtype, int] = {}
    for tensor in tensors:
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.info.size_bytes
    return max(sizes, key=lambda each: sizes[each])


def _fit_config(config: dict[str, object], donor: Model, walk: OutputOrder, words: Vocabulary) -> None:
    """Make the donor's config true for the result: a head of its own, another vocabulary."""
    if donor.tied and not walk.tied:
        untie(config)
    if words.alignment is not None:
        set_vocabulary(config, words.alignment.size, words.source.config)
    elif words.source is not donor:
        set_vocabulary(config, int(words.source.text_config.get("vocab_size", 0)), words.source.config)
