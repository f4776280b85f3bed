"""The Python API: what the commands do, as functions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge._derive import extract_lora, moe
from evomerge._merging import merge, plan_merge, write_merge
from evomerge.checkpoint import SHARD_BYTES, Parents, refuse_existing
from evomerge.engine import output_tokenizer
from evomerge.errors import DegenerateModel, EvomergeError
from evomerge.evaluate import PoolSizes, Prepared, TaskRequest, prepare
from evomerge.recipe import ModelRef, Recipe, load_recipe, parse_recipe
from evomerge.run import (
    CandidateScorer,
    Job,
    Soup,
    WorkerSetup,
    check_ingredients,
    cook,
    metric,
    soup_document,
    soup_sections,
)
from evomerge.stats import mean_and_stderr

__all__ = ["evaluate", "extract_lora", "merge", "moe", "plan_merge", "soup", "write_merge"]


def evaluate(
    model_or_recipe: Path | str,
    tasks: Sequence[str],
    *,
    task_path: Path | str | None = None,
    limit: int | None = None,
    lm_eval: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Score a model folder, a hub id or a recipe file on the split that each task reports on.

    Args:
        tasks: lm-eval tasks, "task" or "task/metric". limit: items per task; None = all.

    Returns:
        objective -> {"metric", "value" in the metric's own direction, "stderr", "n"}.

    Raises:
        InvalidInput: unknown model, recipe or task. EvomergeError: it could not be scored; says why.
    """
    path = Path(model_or_recipe)
    recipe = load_recipe(path) if path.suffix in (".yaml", ".yml") else _of_one_model(str(model_or_recipe))
    pools = PoolSizes(search=0, select=0, report=limit)
    prepared = _prepared(tasks, recipe, pools, task_path, lm_eval, seed)
    setup = WorkerSetup(
        parents=recipe.models,
        root=recipe.root,
        prepared=prepared,
        batch_size=batch_size,
        threads=1,
        device=device,
        commits=recipe.commits,
    )
    items = {name: pools["report"] for name, pools in prepared.pools.items()}
    job = Job(candidate=0, pool="report", document=recipe.document, items=items)
    outcome = CandidateScorer(setup, "evaluate").score(job)
    if outcome.items is None:
        assert outcome.failure is not None
        raise (DegenerateModel if outcome.failure.kind == "degenerate" else EvomergeError)(outcome.failure.detail)
    result = {}
    for objective in prepared.objectives:
        found = outcome.items[objective.name]
        score = mean_and_stderr(found.values, found.weights)
        value = metric(objective, score.value)
        stderr = score.stderr * value if objective.link == "exp" else score.stderr
        result[objective.name] = {"metric": objective.metric, "value": value, "stderr": stderr, "n": score.n}
    return result


def soup(
    models: Sequence[Path | str],
    out: Path | str,
    tasks: Sequence[str],
    *,
    task_path: Path | str | None = None,
    limit: int = 256,
    report_limit: int | None = None,
    lm_eval: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    say: Callable[[str], None] = lambda line: None,
) -> Soup:
    """Average fine-tunes greedily, best first, keeping each that does not lower the held-out score, and write it.

    Args:
        models: two or more folders or hub ids of one architecture. tasks: lm-eval tasks, "task" or "task/metric".
        limit: items per task that choose. report_limit: other items per task, for the comparison with the best single
            checkpoint; None = all that are left. seed: of both samples and of the interval. say: told of every score.

    Raises:
        InvalidInput: models that cannot be averaged, an unknown task, or `out` exists. NothingScored: no checkpoint
        could be scored. Nothing is left behind.
    """
    refuse_existing(Path(out))
    refs = [ModelRef.parse(str(model)) for model in models]
    check_ingredients(refs)
    recipe = parse_recipe(soup_document(refs))
    plan_merge(recipe)  # says what does not fit before hours of scoring
    pools = PoolSizes(search=0, select=limit, report=report_limit)
    prepared = _prepared(tasks, recipe, pools, task_path, lm_eval, seed)
    setup = WorkerSetup(
        parents=recipe.models, root=None, prepared=prepared, batch_size=batch_size, threads=1, device=device
    )
    scorer = CandidateScorer(setup, "soup")
    made = cook(refs, prepared.objectives, prepared.pools, scorer.score, seed=seed, say=say)
    plan, parents = plan_merge(made.document)
    record = {"soup": {key: value for key, value in made.plain().items() if key != "recipe"}}
    write_merge(plan, parents, Path(out), shard_bytes=shard_bytes, sections=soup_sections(made), record=record)
    return made


def _prepared(
    tasks: Sequence[str],
    recipe: Recipe,
    pools: PoolSizes,
    task_path: Path | str | None,
    lm_eval: Mapping[str, Any] | None,
    seed: int,
) -> Prepared:
    return prepare(
        [_request(name) for name in tasks],
        task_path=None if task_path is None else Path(task_path).resolve(),
        pools=pools,
        seed=seed,
        lm_eval_options=lm_eval,
        tokenizer=_tokenizer(recipe) if (lm_eval or {}).get("apply_chat_template") else None,
    )


def _of_one_model(name: str) -> Recipe:
    return parse_recipe({"merge_method": "passthrough", "models": [{"model": ModelRef.parse(name).plain()}]})


def _request(name: str) -> TaskRequest:
    task, _, chosen = name.partition("/")
    return TaskRequest(task=task, metric=chosen or None, where="--tasks")


def _tokenizer(recipe: Recipe) -> Any:
    parents = Parents(recipe.models, recipe.root, recipe.commits)
    return output_tokenizer(recipe, parents).load()
