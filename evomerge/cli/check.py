"""`evomerge check FILE`."""

from pathlib import Path
from typing import Any

import click

from evomerge.cli._shared import JSON, print_json, size
from evomerge.errors import EvomergeError, InvalidFile, InvalidInput, RefusedForSafety


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@JSON
def command(file: Path, as_json: bool) -> None:
    """Validate a recipe or a search file without running it; every problem at once.

    \b
    Example:
      evomerge check experiments/quickstart/search.yaml
    """
    facts: dict[str, Any] = {}
    problems: list[dict[str, str]] = []
    code = 0
    try:
        facts = _facts(file)
    except InvalidFile as error:
        problems, code = [{"where": p.where, "text": p.text} for p in error.problems], error.exit_code
    except EvomergeError as error:
        problems = [{"where": str(file), "text": line} for line in str(error).splitlines()]
        code = error.exit_code if isinstance(error, RefusedForSafety) else InvalidInput.exit_code
    if as_json:
        print_json({"version": 1, "file": str(file), "ok": not problems, "problems": problems, "facts": facts})
    else:
        for name, value in facts.items():
            for line in value if isinstance(value, list) else [value]:
                click.echo(f"{name:<10} {line}")
        for problem in problems:
            click.echo(f"{problem['where']}: {problem['text']}")
        click.echo(f"{'problems':<10} {len(problems) or 'none'}")
    raise SystemExit(code)


def _facts(file: Path) -> dict[str, Any]:
    from evomerge.recipe import read_yaml

    data = read_yaml(file)
    if isinstance(data, dict) and "merge_method" in data:
        return _recipe_facts(file)
    return _search_facts(file)


def _recipe_facts(file: Path) -> dict[str, Any]:
    from evomerge.api import plan_merge

    plan, parents = plan_merge(file)
    models = [parents[ref].summary(digest=False) for ref in parents]
    return {
        "method": plan.recipe.method,
        "parents": [
            f"{m.name}: {m.architecture}, {m.num_layers} layers, {m.dtype}, {size(m.size_bytes)}" for m in models
        ],
        "licences": ", ".join(m.licence or "not stated" for m in models),
        "output": f"{len(plan.tensors)} tensors, {len(plan.layers)} layers, {size(plan.size_bytes)}",
        "notes": list(plan.notes),
    }


def _search_facts(file: Path) -> dict[str, Any]:
    from evomerge.run import inspect, needs

    setup = inspect(file)
    entry, domain = setup.entry, setup.space.domain
    models = [*([setup.base] if setup.base else []), *setup.models]
    first = models[0]
    need = needs(setup)
    warnings = []
    if need["memory_needed"] > need["memory_free"]:
        warnings.append("the workers may need more memory than is free; lower workers.count")
    budget = {name: value for name, value in entry.budget.model_dump().items() if value is not None}
    kinds = f"{domain.reals} real, {len(domain.integers)} whole, {len(domain.categories)} choices"
    return {
        "parents": f"{len(models)} models, {first.architecture}, {first.num_layers} layers, {first.dtype}",
        "licences": ", ".join(model.licence or "not stated" for model in models),
        "space": f"{domain.size} numbers: {kinds}",
        "optimizer": setup.optimizer,
        "tasks": [
            f"{o.name}: {o.metric}, {o.direction}; items "
            + ", ".join(f"{pool} {len(ids)}" for pool, ids in setup.prepared.pools[o.name].items())
            for o in setup.objectives
        ],
        "subset": f"{entry.subset.size} items per task and candidate, {entry.subset.policy}",
        "budget": ", ".join(f"{value:g} {name}" for name, value in budget.items()),
        "memory": f"about {size(need['memory_needed'])} needed, {size(need['memory_free'])} free",
        "disk": f"no model is written during the search; {size(need['disk_free'])} free",
        "notes": [*setup.notes, *warnings],
    }
