"""From a recipe and its opened parents to a plan. No tensor is read here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from evomerge.checkpoint import Model, Parents, companion_notes, merged_config, set_vocabulary, untie
from evomerge.engine._plan_records import Plan, TensorPlan
from evomerge.engine._tokenizer import Vocabulary, vocabulary
from evomerge.engine.plan._config_checks import check_stack
from evomerge.engine.plan._nested import PlannedModel
from evomerge.engine.plan._output_order import OutputOrder
from evomerge.engine.plan._tensor import TensorPlanner
from evomerge.engine.plan._unused_settings import without_effect
from evomerge.errors import MergeFailed, first_few
from evomerge.recipe import ModelRef, Recipe

_PER_BLOCK_ROWS = "vocab_size_per_layer_input"  # a config's key: Gemma 3n, Gemma 4


def make_plan(recipe: Recipe, parents: Parents, *, union: bool = False) -> Plan:
    """Resolve a recipe against its parents. Merges that it refers to by name are planned first and join the parents.

    Args:
        recipe: what to build.
        parents: the opened models; merges by name are added.
        union: whether any tensor may be missing in some models, as biases may: the others' are merged.

    Raises:
        MergeFailed: tensors missing or of different shapes, layers out of range, parameters without a value, things
            that cannot be merged; the first few problems in one message.
    """
    for name, inner in recipe.merges.items():
        parents.name(name, inner.fingerprint, lambda name=name, inner=inner: _nested(name, inner, parents))  # type: ignore[misc]
    order = OutputOrder(recipe, parents)
    _fail_on(order.problems)
    words = vocabulary(recipe, parents)
    if words.alignment is not None:
        _fail_on([_unaligned(parents[ref]) for ref in recipe.merged if parents[ref].text_config.get(_PER_BLOCK_ROWS)])
    planner = TensorPlanner(recipe, parents, words.alignment, union=union)
    tensors = tuple(plan for tensor in order.tensors() for plan in planner.plan(tensor))
    _fail_on([*_other_families(recipe, parents, planner.problems), *order.problems, *planner.problems])
    if not tensors:
        raise MergeFailed("the recipe describes a model without tensors")
    dtype, layers = planner.dtypes.main, tuple(order.layers())
    config = _config(order, tensors, layers, dtype, words)
    unchecked = _check_config(order, config, tensors, layers)
    return Plan(
        recipe=recipe,
        tensors=tensors,
        layers=layers,
        dtype=dtype,
        config=config,
        layout=order.layout,
        notes=(
            *without_effect(recipe, tensors),
            *words.notes,
            *planner.notes,
            *unchecked,
            *_dtype_notes(planner),
            *_companion_notes(recipe.config_source, parents),
        ),
    )


def _dtype_notes(planner: TensorPlanner) -> Iterator[str]:
    """Yield a line for each dtype of the parents that the result rounds although the recipe states no dtype."""
    if planner.recipe.dtype or planner.recipe.out_dtype:
        return
    for dtype, names in planner.narrowed.items():
        stored, main = (str(kind).removeprefix("torch.") for kind in (dtype, planner.dtypes.main))
        yield (
            f"{len(names)} tensors that a model stores in {stored} ({min(names)}, ...) become {main}, as when "
            f"transformers loads that model; set dtype: {stored} to keep all their digits"
        )


def _companion_notes(ref: ModelRef, parents: Parents) -> Sequence[str]:
    """Return the notes on the files beside a model, which are looked at once."""
    key = ("companions", ref)
    if key not in parents.memo:
        parents.memo[key] = tuple(companion_notes(parents[ref]))
    found: tuple[str, ...] = parents.memo[key]
    return found


def _unaligned(model: Model) -> str:
    return (
        f"tokenizer: {model.name} has rows of tokens for each block ({_PER_BLOCK_ROWS}), which are not aligned; give "
        "parents with one vocabulary, and leave tokenizer: out"
    )


def _nested(name: str, recipe: Recipe, parents: Parents) -> Model:
    """Return the model that another recipe refers to by name."""
    try:
        return PlannedModel(name, make_plan(recipe, parents), parents)
    except MergeFailed as error:
        raise MergeFailed("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from None


def _other_families(recipe: Recipe, parents: Parents, problems: Sequence[str]) -> list[str]:
    """Return a sentence on models of different families, which explains the problems that there are; else nothing."""
    classes = {str(ref): _class_of(parents[ref]) for ref in recipe.models}
    if not problems or len(set(classes.values())) < 2:
        return []
    listed = ", ".join(f"{name} is a {kind}" for name, kind in classes.items())
    return [f"the models are of different families, whose tensors differ in names or shapes: {listed}"]


def _class_of(model: Model) -> str:
    return str((model.config.get("architectures") or [model.config.get("model_type", "model")])[0])


def _fail_on(problems: Sequence[str]) -> None:
    if problems:
        raise MergeFailed(first_few(problems))


def _config(
    order: OutputOrder,
    tensors: Sequence[TensorPlan],
    layers: Sequence[tuple[ModelRef, int]],
    dtype: torch.dtype,
    words: Vocabulary,
) -> dict[str, Any]:
    """Return the config source's config, made true for the result: depth, dtype, a head of its own, vocabulary."""
    parents = order.parents
    source = parents[order.recipe.config_source]
    config = merged_config(source, [(parents[ref], index) for ref, index in layers], dtype)
    if source.tied and not order.tied:
        untie(config)
    if words.alignment is not None:
        set_vocabulary(config, words.alignment.size, words.source.config)
    elif words.source is not source:
        set_vocabulary(config, int(words.source.text_config.get("vocab_size", 0)), words.source.config)
    return config


def _check_config(
    order: OutputOrder, config: Mapping[str, Any], tensors: Sequence[TensorPlan], layers: Sequence[tuple[ModelRef, int]]
) -> list[str]:
    """Return notes on what could not be checked of a stack; see `check_stack`."""
    note = check_stack(config, tensors, order.parents[order.recipe.config_source], [index for _, index in layers])
    return [] if note is None else [note]
