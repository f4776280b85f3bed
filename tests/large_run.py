"""A run of any size with three objectives, made up: the ledger of a search that went well, without its models.

python -m tests.large_run FOLDER 2000      # to look at the report of a large run
"""

import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.records import Failure, ItemScores, Point, Pool
from evomerge.run import LEDGER, Ledger, Ranking, Run, judge, scores_of, verdict_plain
from evomerge.testing.pico import write_pico

OBJECTIVES = ("arithmetic", "reading", "translation")
ITEMS: Mapping[Pool, range] = {"search": range(256), "select": range(256, 512), "report": range(512, 1024)}
SUBSET = 64
MODELS = ("org-a/math-7b", "org-b/chat-7b", "org-c/code-7b")
BASE = "org/base-7b"
LAYERS = 8
REFERENCES = (BASE, *MODELS, "uniform average", "task arithmetic 0.5")


def make_large_run(folder: Path, candidates: int, *, seed: int = 0, failures: int = 12, gain: float = 0.12) -> Path:
    """Write the ledger of a finished search and return its run folder.

    Args:
        folder: to make.
        candidates: that the search tried.
        seed: of everything.
        failures: candidates that failed.
        gain: of the best candidates over the references; below 0 the pick is a reference.
    """
    chance = random.Random(seed)
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder / LEDGER, _facts(seed))
    genes = len(MODELS) * LAYERS
    best = [chance.uniform(0.2, 0.8) for _ in range(genes)]
    with ledger.transaction():
        skills = {}
        for name in REFERENCES:
            kind = "parent" if name in (BASE, *MODELS) else "simple"
            recipe = _reference(name)
            i = ledger.add(name=name, kind=kind, generation=-1, subset=-1, recipe=recipe, fingerprint=name).id
            skills[i] = [0.55 + chance.uniform(-0.25, 0.12) for _ in OBJECTIVES]
            _score(ledger, chance, i, skills[i], "search", ITEMS["search"])
        for number in range(candidates):
            progress = number / candidates
            spread = 0.35 * (1 - progress) + 0.05
            point = [min(1.0, max(0.0, g * progress + 0.5 * (1 - progress) + chance.gauss(0, spread))) for g in best]
            i = ledger.add(
                name="candidate {id}",
                kind="candidate",
                generation=number // 16,
                subset=number // 16,
                recipe=_recipe(point),
                fingerprint=f"f{number}",
                point=Point(reals=tuple(point)),
                number=number,
            ).id
            if failures and number % (step := max(1, candidates // failures)) == min(7, step - 1):
                failure = Failure(kind="degenerate", reason="logits are not finite in layer 3", detail="Traceback ...")
                ledger.finish(i, failure=failure, attempts=1, seconds=0.4, worker="worker 0")
                continue
            distance = sum((a - b) ** 2 for a, b in zip(point, best, strict=True)) / genes
            level = 0.6 + gain - 1.2 * distance
            skills[i] = [level + 0.06 * (point[k] - 0.5) + chance.gauss(0, 0.01) for k in range(len(OBJECTIVES))]
            subset = chance.sample(ITEMS["search"], SUBSET)
            _score(ledger, chance, i, skills[i], "search", sorted(subset), f"worker {number % 2}")
    _prove(ledger, chance, skills)
    ledger.close()
    return folder


def _score(
    ledger: Ledger, chance: random.Random, i: int, skill: list[float], pool: Pool, ids: Any, worker: str = "worker 0"
) -> None:
    items = {
        name: ItemScores(ids=tuple(ids), values=tuple(float(chance.random() < level) for _ in ids))
        for name, level in zip(OBJECTIVES, skill, strict=True)
    }
    if pool == "search":
        ledger.finish(i, failure=None, attempts=1, seconds=chance.uniform(20, 40), worker=worker)
    ledger.add_scores(i, pool, scores_of(items), items)


def _prove(ledger: Ledger, chance: random.Random, skills: Mapping[int, list[float]]) -> None:
    """Name finalists, score them on the held-out pools and judge the pick."""
    run = Run(ledger.path.parent)
    objectives = run.objectives
    ranking = Ranking(objectives, ledger.items("search"), {})
    searched = [c.id for c in run.candidates() if c.kind == "candidate"]
    references = [c for c in run.candidates() if c.kind != "candidate"]
    finalists = ranking.ranked(searched)[:8]
    with ledger.transaction():
        for i in (*finalists, *(c.id for c in references)):
            _score(ledger, chance, i, skills[i], "select", ITEMS["select"])
    known = {c.id: c for c in run.candidates()}
    means = {i: sum(s.value for s in c.scores["select"].values()) for i, c in known.items() if "select" in c.scores}
    pick = max(means, key=lambda i: means[i])
    with ledger.transaction():
        for i in dict.fromkeys((pick, *(c.id for c in references))):
            _score(ledger, chance, i, skills[i], "report", ITEMS["report"])
    result = judge(objectives, ledger.items("report"), known, pick, [c.id for c in references], seed=0)
    front = Ranking.of_values(
        objectives, {i: {n: s.value for n, s in known[i].scores["select"].items()} for i in means}, {}
    ).front(list(means))
    facts = {
        "adjusted": {str(i): values for i, values in ranking.values.items()},
        "finalists": finalists,
        "pick": pick,
        "front": front,
        "verdict": verdict_plain(result),
        "state": "done",
        "seconds": 31_000.0,
        "busy": {"spent": 58_000.0, "there": 61_000.0},
    }
    with ledger.transaction():
        for key, value in facts.items():
            ledger.set_meta(key, value)


def _recipe(point: list[float]) -> dict[str, Any]:
    prefix = "model.layers."
    return {
        "merge_method": "task_arithmetic",
        "base_model": BASE,
        "models": [
            {
                "model": model,
                "parameters": {
                    "weight": [
                        {"filter": f"{prefix}{layer}.", "value": round(1.5 * point[k * LAYERS + layer], 4)}
                        for layer in range(LAYERS)
                    ]
                    + [{"value": 0.3}]
                },
            }
            for k, model in enumerate(MODELS)
        ],
    }


def _reference(name: str) -> dict[str, Any]:
    if name in (BASE, *MODELS):
        return {"merge_method": "passthrough", "models": [{"model": name}]}
    return {
        "merge_method": "task_arithmetic",
        "base_model": BASE,
        "models": [{"model": model, "parameters": {"weight": 0.5}} for model in MODELS],
    }


def _facts(seed: int) -> dict[str, Any]:
    parent = {"architecture": "LlamaForCausalLM", "dtype": "bfloat16", "num_layers": LAYERS, "license": "apache-2.0"}
    objectives = [{"name": name, "task": name, "metric": "acc"} for name in OBJECTIVES]
    defaults = {"direction": "max", "link": "identity", "weight": 1.0, "floor": None, "scale": None}
    return {
        "identity": {
            "seed": seed,
            "parents": dict.fromkeys((BASE, *MODELS), "0" * 64),
            "space": {"method": "task_arithmetic", "genes": {"weight": {"per": ["model", "layer"], "range": [0, 1.5]}}},
        },
        "state": "searching",
        "search": {"parents": {"base": BASE, "models": list(MODELS)}, "tasks": [{"task": n} for n in OBJECTIVES]},
        "folder": "/nowhere",
        "objectives": [{**entry, **defaults} for entry in objectives],
        "base": {"name": BASE, **parent},
        "models": [{"name": model, **parent} for model in MODELS],
        "coordinates": [f"weight {model} layer {layer}" for model in MODELS for layer in range(LAYERS)],
        "optimizer": "cma",
        "notes": [],
        "versions": {"evomerge": "0.1.0"},
        "machine": {"python": "3.11", "processors": 2},
        "outlines": _outlines(),
        "seconds": 0.0,
    }


def _outlines() -> dict[str, Any]:
    """Return the outlines of models that are nowhere."""
    import tempfile

    from evomerge.checkpoint import Parents, model_outlines
    from evomerge.recipe import ModelRef

    with tempfile.TemporaryDirectory() as folder:
        ref = ModelRef(str(write_pico(Path(folder) / "model", 0, num_hidden_layers=LAYERS)))
        outlines = model_outlines([Parents([ref])[ref]])
    (plain,) = outlines["models"].values()
    return {**outlines, "models": dict.fromkeys((BASE, *MODELS), plain)}


if __name__ == "__main__":
    print(make_large_run(Path(sys.argv[1]), int(sys.argv[2]), gain=float(sys.argv[3]) if len(sys.argv) > 3 else 0.12))
