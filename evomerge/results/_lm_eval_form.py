"""Scores in the form of lm-eval's own result files, so that whatever reads those reads these."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.records import Objective


def lm_eval_document(
    objectives: Sequence[Objective],
    scores: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Mapping[str, Any]],
    *,
    model: str,
    seed: int | None = None,
) -> dict[str, Any]:
    """Return scores as `lm_eval --output_path` writes them (0.4.13).

    Args:
        objectives: what was scored.
        scores: objective -> "value" and "stderr" in the metric's own units, and "n", the number of items.
        facts: objective -> what was recorded of its task: version, filter, number of examples, items in all.
        model: what was scored.
        seed: of the sample of items.
    """
    document: dict[str, Any] = {
        "results": {},
        "group_subtasks": {},
        "configs": {},
        "versions": {},
        "n-shot": {},
        "higher_is_better": {},
        "n-samples": {},
        "config": {"model": "evomerge", "model_args": model, "random_seed": seed, "bootstrap_iters": 0},
        "date": time.time(),
        "model_name": model,
    }
    for objective in objectives:
        if objective.name not in scores:
            continue
        known, score, task = facts.get(objective.name, {}), scores[objective.name], objective.task
        metric, chosen = str(known.get("metric", objective.metric)), str(known.get("filter", "none"))
        entry = document["results"].setdefault(task, {"alias": task})
        stderr = score["stderr"]
        entry |= {
            f"{metric},{chosen}": score["value"],
            f"{metric}_stderr,{chosen}": "N/A" if stderr is None else stderr,
        }
        document["group_subtasks"].setdefault(task, [])
        document["configs"][task] = {"task": task, **known}
        document["versions"][task] = known.get("version", "N/A")
        document["n-shot"][task] = known.get("num_fewshot", 0)
        document["higher_is_better"].setdefault(task, {})[metric] = objective.direction == "max"
        total = sum(known.get("documents", {}).values()) or score["n"]
        document["n-samples"][task] = {"original": total, "effective": score["n"]}
    return document
