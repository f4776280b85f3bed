"""`evomerge evaluate MODEL_OR_RECIPE --tasks ...`."""

from typing import Any

import click

from evomerge.cli._options import JSON, scoring_options, scoring_settings, split_names
from evomerge.cli._output import print_json


@click.command()
@click.argument("model_or_recipe")
@scoring_options(limit=None, limit_help="Score a sample of so many items per task; all by default.")
@click.option("--output", type=click.Path(dir_okay=False), help="Write the scores in the form of lm-eval's results.")
@JSON
def command(model_or_recipe: str, tasks: str, output: str | None, as_json: bool, **settings: Any) -> None:
    """Score a model folder, a hub id or a recipe (merged in memory) with the code that a search uses.

    \b
    Example:
      evomerge evaluate recipe.yaml --tasks arc_easy,hellaswag --limit 200
    """
    from evomerge.api.evaluate import evaluate

    result = evaluate(model_or_recipe, split_names(tasks), output=output, **scoring_settings(**settings))
    if as_json:
        print_json({"version": 1, "model": model_or_recipe, "engine": settings["engine"], "scores": result})
        return
    for name, score in result.items():
        low, high = score["interval"]
        click.echo(
            f"{name}: {score['metric']} {score['value']:.4f} (95% interval {low:.4f} to {high:.4f}, standard error "
            f"{score['stderr']:.4f}, {score['n']} items)"
        )
