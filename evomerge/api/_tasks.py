"""Tasks named on the command line, prepared for scoring."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.checkpoint import Parents
from evomerge.engine import output_tokenizer
from evomerge.evaluation import PoolSizes, Prepared, TaskRequest, prepare
from evomerge.recipe import Recipe


def prepared_tasks(
    tasks: Sequence[str],
    recipe: Recipe,
    pools: PoolSizes,
    task_path: Path | str | None,
    lm_eval: Mapping[str, Any] | None,
    seed: int,
) -> Prepared:
    """Prepare "task" or "task/metric" names for a recipe's model (see `evomerge.evaluation.prepare`)."""
    return prepare(
        [_request(name) for name in tasks],
        task_path=None if task_path is None else Path(task_path).resolve(),
        pools=pools,
        seed=seed,
        lm_eval_options=lm_eval,
        tokenizer=_tokenizer(recipe) if (lm_eval or {}).get("apply_chat_template") else None,
    )


def _request(name: str) -> TaskRequest:
    task, _, chosen = name.partition("/")
    return TaskRequest(task=task, metric=chosen or None, where="--tasks")


def _tokenizer(recipe: Recipe) -> Any:
    parents = Parents(recipe.models, recipe.root, recipe.commits)
    return output_tokenizer(recipe, parents).load()
