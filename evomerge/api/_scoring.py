"""What `evaluate` and `soup` share: tasks by name, prepared for scoring; the engine; torch's threads."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint import Parents
from evomerge.engine import output_tokenizer
from evomerge.errors import InvalidFile, Problem
from evomerge.evaluation import PoolSizes, Prepared, TaskRequest, prepare_tasks
from evomerge.recipe import Recipe
from evomerge.run import EngineEntry, WorkerSetup, engine_problems, vllm_options

ENGINE = "engine"  # as messages name what writes the answers


def prepared_tasks(
    tasks: Sequence[str],
    recipe: Recipe,
    pools: PoolSizes,
    task_path: Path | str | None,
    lm_eval: Mapping[str, Any] | None,
    seed: int,
    allow_code: Collection[str] = (),
) -> Prepared:
    """Prepare tasks for a recipe's model.

    Args:
        tasks: "task" or "task/metric".
        recipe: what the model is built from; its tokenizer wraps prompts in a chat template where the options say so.
        pools: number of items per task.
        task_path: a folder of further task YAMLs.
        lm_eval: options that lm-eval knows, such as num_fewshot.
        seed: of the sample of items.
        allow_code: tasks that may run code that the model writes, or that may be Python classes.

    Raises:
        InvalidInput: see `evomerge.evaluation.prepare_tasks`.
    """
    return prepare_tasks(
        [_request(name) for name in tasks],
        task_path=None if task_path is None else Path(task_path).resolve(),
        pools=pools,
        seed=seed,
        lm_eval_options=lm_eval,
        allow_code=allow_code,
        tokenizer=_tokenizer(recipe) if (lm_eval or {}).get("apply_chat_template") else None,
    )


def worker_setup(
    recipe: Recipe, prepared: Prepared, *, engine: EngineEntry, batch_size: int, threads: int, device: str
) -> WorkerSetup:
    """Return what a scorer of a recipe's model needs.

    Args:
        recipe: what the model is built from.
        prepared: the tasks.
        engine: what writes their answers.
        batch_size: most rows of a forward pass.
        threads: CPU threads of torch.
        device: that the model is built on.

    Raises:
        InvalidFile: everything that keeps the engine from it.
    """
    if engine.name == "vllm":
        parents = Parents(recipe.models, recipe.root, recipe.commits)
        problems = list(engine_problems(engine, prepared, [parents[ref] for ref in parents], device))
        if problems:
            raise InvalidFile([Problem(ENGINE, sentence) for sentence in problems])
    return WorkerSetup(
        parents=recipe.models,
        root=recipe.root,
        prepared=prepared,
        batch_size=batch_size,
        threads=threads,
        device=device,
        commits=recipe.commits,
        vllm=vllm_options(engine),
    )


@contextmanager
def torch_threads_restored() -> Iterator[None]:
    """Give the caller back its own number of torch threads: a scorer sets the number it is given."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _request(name: str) -> TaskRequest:
    task, _, metric = name.partition("/")
    return TaskRequest(task=task, metric=metric or None, where="--tasks")


def _tokenizer(recipe: Recipe) -> Any:
    parents = Parents(recipe.models, recipe.root, recipe.commits)
    return output_tokenizer(recipe, parents).load()
