"""`evomerge evaluate MODEL_OR_RECIPE --tasks ...`."""

from pathlib import Path

import click

from evomerge.cli._shared import JSON, print_json


@click.command()
@click.argument("model_or_recipe")
@click.option("--tasks", required=True, help="lm-eval tasks, separated by commas; task/metric names a metric.")
@click.option("--task-path", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Your own task YAMLs.")
@click.option("--limit", type=click.IntRange(min=1), help="Score a seeded sample of so many items per task.")
@click.option("--num-fewshot", type=click.IntRange(min=0), help="Examples in each prompt.")
@click.option("--apply-chat-template", is_flag=True, help="Wrap prompts in the model's chat template.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the sample.")
@JSON
def command(
    model_or_recipe: str,
    tasks: str,
    task_path: Path | None,
    limit: int | None,
    num_fewshot: int | None,
    apply_chat_template: bool,
    batch_size: int,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """Score a model folder, a hub id or a recipe (merged in memory) with the code that a search uses.

    \b
    Example:
      evomerge evaluate recipe.yaml --tasks arc_easy,hellaswag --limit 200
    """
    from evomerge.api import evaluate

    options = {"num_fewshot": num_fewshot, "apply_chat_template": apply_chat_template or None}
    result = evaluate(
        model_or_recipe,
        [name.strip() for name in tasks.split(",") if name.strip()],
        task_path=task_path,
        limit=limit,
        lm_eval={key: value for key, value in options.items() if value is not None},
        batch_size=batch_size,
        device=device,
        seed=seed,
    )
    if as_json:
        print_json({"version": 1, "model": model_or_recipe, "scores": result})
        return
    for name, score in result.items():
        click.echo(f"{name}: {score['metric']} {score['value']:.4f} ± {score['stderr']:.4f} ({score['n']} items)")
