"""`evomerge.evaluate`: score one model or recipe."""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from evomerge.api._scoring import ENGINE, prepared_tasks, torch_threads_restored, worker_setup
from evomerge.errors import DegenerateModel, EvomergeError, InvalidInput
from evomerge.evaluation import PoolSizes, Prepared
from evomerge.recipe import ModelRef, Recipe, load_recipe, parse_recipe
from evomerge.records import ItemScores
from evomerge.results import lm_eval_document
from evomerge.run import CandidateScorer, Job, WorkerSetup, displayed_interval, displayed_value, read_engine
from evomerge.stats import interval_of, score_of


def evaluate(
    model_or_recipe: Path | str,
    tasks: Sequence[str],
    *,
    task_path: Path | str | None = None,
    limit: int | None = None,
    lm_eval: Mapping[str, Any] | None = None,
    allow_code: Collection[str] = (),
    batch_size: int = 64,
    threads: int = 1,
    device: str = "cpu",
    engine: str | Mapping[str, Any] = "transformers",
    seed: int = 0,
    output: Path | str | None = None,
) -> dict[str, dict[str, Any]]:
    """Score a model folder, a hub id or a recipe file on the split that each task reports on.

    Args:
        model_or_recipe: a folder, a hub id, or a recipe file (.yaml, .yml), which is merged in memory.
        tasks: lm-eval tasks, "task" or "task/metric".
        task_path: a folder of further task YAMLs.
        limit: items per task, a sample drawn by `seed`; None = all.
        lm_eval: options that lm-eval knows: num_fewshot, apply_chat_template, ...
        allow_code: tasks that may run code that the model writes, or that may be Python classes.
        batch_size: most rows of a forward pass.
        threads: CPU threads of torch. The default, one, is that of a search's workers, and gives a search's scores to
            the last bit; large models on an idle machine are faster with one for each core.
        device: "cpu", "cuda" or "cuda:N".
        engine: what writes the answers of tasks that generate: "transformers", "vllm", or a mapping of name and options
            as under `workers.engine` of a search file.
        seed: of the sample of items.
        output: a file for the scores in the form of lm-eval's results; None = none.

    Returns:
        objective -> {"metric": its name, "value": in the metric's own direction, "stderr": standard error,
        "interval": 95% interval (Wilson's for items that are right or wrong), "n": number of items}.

    Raises:
        InvalidInput: unknown model, recipe, task or engine, or the engine cannot write these answers.
        DegenerateModel: the model's weights or answers are not finite, or always the same.
        EvomergeError: it could not be scored; says why.
    """
    chosen = read_engine(engine, ENGINE)
    path = Path(model_or_recipe)
    recipe = load_recipe(path) if path.suffix in (".yaml", ".yml") else _of_one_model(str(model_or_recipe))
    prepared = prepared_tasks(
        tasks, recipe, PoolSizes(search=0, select=0, report=limit), task_path, lm_eval, seed, allow_code
    )
    setup = worker_setup(recipe, prepared, engine=chosen, batch_size=batch_size, threads=threads, device=device)
    with torch_threads_restored():
        found = _score(setup, recipe)
    result = _by_objective(prepared, found)
    if output is not None:
        document = lm_eval_document(prepared.objectives, result, prepared.facts, model=str(model_or_recipe), seed=seed)
        _write(Path(output), document)
    return result


def _write(output: Path, document: Mapping[str, Any]) -> None:
    try:
        output.write_text(json.dumps(document, indent=2, ensure_ascii=False, default=str), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{output}: cannot be written ({error.strerror}); name another file") from None


def _of_one_model(name: str) -> Recipe:
    return parse_recipe({"merge_method": "passthrough", "models": [{"model": ModelRef.parse(name).plain()}]})


def _score(setup: WorkerSetup, recipe: Recipe) -> Mapping[str, ItemScores]:
    items = {name: pools["report"] for name, pools in setup.prepared.pools.items()}
    job = Job(candidate=0, pool="report", document=recipe.document, items=items)
    with closing(CandidateScorer(setup, "evaluate")) as scorer:
        outcome = scorer.score(job)
    if outcome.items is None:
        assert outcome.failure is not None
        raise (DegenerateModel if outcome.failure.kind == "degenerate" else EvomergeError)(outcome.failure.detail)
    return outcome.items


def _by_objective(prepared: Prepared, found: Mapping[str, ItemScores]) -> dict[str, dict[str, Any]]:
    result = {}
    for objective in prepared.objectives:
        items = found[objective.name]
        score = score_of(items)
        value = displayed_value(objective, score.value)
        stderr = score.stderr * value if objective.link == "exp" else score.stderr
        interval = interval_of(items, cluster_of=prepared.clusters.get(objective.name))
        result[objective.name] = {
            "metric": objective.metric,
            "value": value,
            "stderr": stderr,
            "interval": displayed_interval(objective, interval.low, interval.high),
            "n": score.n,
        }
    return result
