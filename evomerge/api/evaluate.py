"""Score one model or recipe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.api._tasks import prepared_tasks
from evomerge.errors import DegenerateModel, EvomergeError
from evomerge.evaluation import PoolSizes
from evomerge.recipe import ModelRef, Recipe, load_recipe, parse_recipe
from evomerge.run import CandidateScorer, Job, WorkerSetup, metric
from evomerge.stats import mean_and_stderr


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
    prepared = prepared_tasks(tasks, recipe, pools, task_path, lm_eval, seed)
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


def _of_one_model(name: str) -> Recipe:
    return parse_recipe({"merge_method": "passthrough", "models": [{"model": ModelRef.parse(name).plain()}]})
