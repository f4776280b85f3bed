"""`evomerge check FILE`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json
from evomerge.errors import EvomergeError, InvalidFile, InvalidInput, RefusedForSafety, format_bytes

if TYPE_CHECKING:
    import torch

    from evomerge.checkpoint import Model
    from evomerge.records import Objective
    from evomerge.run import Cost, OutputVocabulary, Setup


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@JSON
def command(file: Path, as_json: bool) -> None:
    """Validate a recipe, a search file or a mixture of experts without running it; every problem at once.

    \b
    Example:
      evomerge check experiments/quickstart/search.yaml
    """
    facts: dict[str, Any] = {}
    problems: list[dict[str, str]] = []
    unchecked: tuple[str, ...] = ()
    code = 0
    try:
        facts = _facts(file)
    except InvalidFile as error:
        problems, code = [{"where": p.where, "text": p.text} for p in error.problems], error.exit_code
        unchecked = error.unchecked
    except EvomergeError as error:
        problems = [{"where": str(file), "text": line} for line in str(error).splitlines()]
        code = error.exit_code if isinstance(error, RefusedForSafety) else InvalidInput.exit_code
    if as_json:
        document = {"version": 1, "file": str(file), "ok": not problems, "problems": problems, "facts": facts}
        print_json({**document, "unchecked": list(unchecked)})
    else:
        for name, value in facts.items():
            for line in value if isinstance(value, list) else [value]:
                click.echo(f"{name:<11} {line}")
        for problem in problems:
            click.echo(f"{problem['where']}: {problem['text']}")
        for line in unchecked:
            click.echo(line)
        click.echo(f"{'problems':<11} {len(problems) or 'none'}")
    raise SystemExit(code)


def _facts(file: Path) -> dict[str, Any]:
    from evomerge.recipe import read_documents

    documents = read_documents(file)
    if any(isinstance(document, dict) and "merge_method" in document for document in documents):
        return _recipe_facts(file)
    if any(isinstance(document, dict) and "experts" in document for document in documents):
        return _mixture_facts(file)
    return _search_facts(file)


def _mixture_facts(file: Path) -> dict[str, Any]:
    from evomerge.api.moe import plan_mixture

    plan = plan_mixture(file)
    entry = plan.recipe.entry
    return {
        "mixture": f"{plan.family.name}, gate_mode {entry.gate_mode}, {entry.experts_per_token} experts a token",
        "experts": [str(expert.source_model) for expert in entry.experts],
        "output": f"{len(plan.tensors)} tensors, {format_bytes(plan.size_bytes)}",
        "notes": list(plan.notes),
    }


def _recipe_facts(file: Path) -> dict[str, Any]:
    from evomerge.api.merge import plan_merge
    from evomerge.methods import get

    plan, parents = plan_merge(file)
    recipe = plan.recipe
    models = [parents[ref].summary(digest=False) for ref in parents]
    merges = [recipe, *recipe.merges.values()]
    related = [
        _relatedness([parents[ref] for ref in merge.merged], plan.dtype, not get(merge.method).merges)
        for merge in merges
    ]
    facts, warnings = ([line for found in related for line in found[i]] for i in (0, 1))
    unaligned = [] if recipe.vocabulary else _vocabulary([parents[ref] for ref in recipe.merged])
    return {
        "method": recipe.method,
        **({"variants": ", ".join(f"{k}: {v}" for k, v in recipe.variants.items())} if recipe.variants else {}),
        **({"builds": ", ".join(recipe.merges)} if recipe.merges else {}),
        "parents": [
            f"{m.name}: {m.architecture}, {m.num_layers} layers, {m.dtype}, {format_bytes(m.size_bytes)}"
            + (f", commit {m.commit}" if m.commit else "")
            for m in models
        ],
        "relatedness": facts,
        "licenses": ", ".join(m.license or "not stated" for m in models),
        "output": f"{len(plan.tensors)} tensors, {len(plan.layers)} layers, {format_bytes(plan.size_bytes)}",
        "notes": [*plan.notes, *warnings, *unaligned],
    }


def _relatedness(
    models: "list[Model]", dtype: "torch.dtype | str | None", stacked: bool
) -> tuple[list[str], list[str]]:
    """Return facts and warnings of how models relate to the first, which is the base; a stack needs no relation."""
    from evomerge.engine import relatedness

    if stacked or len(models) < 2:
        return [], []
    found = relatedness(models[0], models[1:], dtype)
    return [line.text for line in found], [line.warning for line in found if line.warning]


def _vocabulary(models: "list[Model]") -> list[str]:
    from evomerge.engine import vocabulary_notes

    return vocabulary_notes(models)


def _cost(cost: "Cost | None") -> str:
    """Return what a candidate and the whole budget cost, or that it is unknown."""
    from evomerge.results import format_duration

    if cost is None:
        return "unknown: there is no GPU here to measure on"
    candidate = (
        f"about {cost.merging + cost.scoring:.2g} s a candidate: {cost.merging:.2g} s to merge (parents {cost.tier}), "
        f"{cost.scoring:.2g} s to score"
    )
    parts = [
        (cost.references, "references"),
        (cost.search, "the budget's candidates"),
        (cost.control, "the random control"),
        (cost.proof, "the proof"),
    ]
    listed = ", ".join(f"{format_duration(seconds)} for {what}" for seconds, what in parts if seconds is not None)
    total = "" if cost.total is None else f"about {format_duration(cost.total)} in all: "
    return f"{candidate}; {total}{listed}{cost.caveat and f' ({cost.caveat})'}"


def _levels(setup: "Setup") -> str:
    """Return the levels that a search goes through, if there are any."""
    listed = ", then ".join(f"{level.name} ({level.size})" for level in setup.levels or setup.stages)
    return f"; coarse to fine: {listed}" if listed else ""


def _sources(setup: "Setup") -> str:
    """Return which models a layer stack takes its blocks from."""
    models = [model.name for model in (setup.base, *setup.models) if model is not None]
    base = "" if setup.base is None else f" (the base, {setup.base.name}, is a source like the others)"
    return f"; blocks of {', '.join(models)}{base}"


def _search_facts(file: Path) -> dict[str, Any]:
    from evomerge.methods import get
    from evomerge.run import check_search, cost_of, resource_needs, try_scorers, uneven_scales

    setup = check_search(file)
    trial = try_scorers(setup)
    opened = [setup.parents[ref] for ref in setup.refs]
    example = setup.document(setup.space.start)
    stacked = not get(example["merge_method"]).merges
    related, unrelated = _relatedness(opened, setup.space.dtype, stacked)
    entry, domain, words = setup.entry, setup.space.domain, setup.vocabulary
    models = [*([setup.base] if setup.base else []), *setup.models]
    first = models[0]
    need = resource_needs(setup)
    warnings = []
    if need.memory_needed > need.memory_free:
        warnings.append("the workers may need more memory than is free; lower workers.count")
    warnings += [line for line in (trial.skipped, uneven_scales(setup.objectives, trial.values)) if line]
    budget = {name: value for name, value in entry.budget.model_dump().items() if value is not None}
    kinds = f"{domain.reals} real, {len(domain.integers)} whole, {len(domain.categories)} choices"
    return {
        "parents": f"{len(models)} models, {first.architecture}, {first.num_layers} layers, {first.dtype}",
        "relatedness": related,
        "licenses": ", ".join(model.license or "not stated" for model in models),
        **({} if words is None else {"tokenizer": _tokenizer(words)}),
        "space": f"{domain.size} numbers: {kinds}{_levels(setup)}{_sources(setup) if stacked else ''}",
        "optimizer": setup.optimizer,
        "tasks": [
            f"{o.name}: {o.metric}, {o.direction}{_counts(o)}; items "
            + ", ".join(f"{pool} {len(ids)}" for pool, ids in setup.prepared.pools[o.name].items())
            for o in setup.objectives
        ],
        "tried": [
            f"{name}: {', '.join(f'{value:.4g}' for value in values)} for two items of {trial.parent}"
            for name, values in trial.values.items()
        ],
        "subset": f"{_subset_size(setup)} items per task and candidate, {entry.subset.policy}",
        "budget": ", ".join(f"{value:g} {name}" for name, value in budget.items()),
        "cost": _cost(cost_of(setup)),
        "memory": f"about {format_bytes(need.memory_needed)} needed, {format_bytes(need.memory_free)} free",
        "disk": f"no model is written during the search; {format_bytes(need.disk_free)} free",
        "notes": [*setup.notes, *unrelated, *([] if words else _vocabulary(opened)), *warnings],
    }


def _tokenizer(words: "OutputVocabulary") -> str:
    """Return the tokenizer of the candidates, and what putting the parents on it takes."""
    if not words.row_bytes:
        return words.fact
    taken = format_bytes(words.row_bytes)
    return f"{words.fact}; each worker puts the rows of {', '.join(words.moved)} on it once and keeps them: {taken}"


def _counts(objective: "Objective") -> str:
    """Return how an objective counts, where that is not by its weight alone."""
    mean = "" if objective.weight else ", no part of the mean"
    bound = "at least" if objective.direction == "max" else "at most"
    return mean + ("" if objective.floor is None else f", {bound} {objective.floor:g}")


def _subset_size(setup: "Setup") -> str:
    """Return how many items a candidate is scored on, in words."""
    if not setup.adaptive_subsets:
        return str(setup.subset_items)
    return f"{setup.subset_items} at first, more as differences shrink,"
