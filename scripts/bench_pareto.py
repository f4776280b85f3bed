"""The front of two conflicting objectives: what each optimizer finds with as many items, re-scored on unseen items.

    python scripts/bench_pareto.py                               # five seeds of three optimizers: an hour
    python scripts/bench_pareto.py --seeds 1 --optimizers auto nsga2 --json found.json

The search is the quickstart's, over its zoo, with two of its tasks, `zoo_add` and `zoo_kanji`: the parent that adds has
forgotten the kanji that the base still reads, and the one that reads them better does not add. Every optimizer has the
same items of the search pool, those with a backward pass counted three times. Two hypervolumes are measured:

- Above the base: the front is that of finalists and references on the select pool; its members that a search found are
  scored on the report pool, which no choice depended on. What they dominate there above the base's scores is the
  volume: 0 where no member is better than the base at both tasks.
- Above 0: what all finalists of the search dominate on the select pool, which none of them was chosen by, above a
  score of 0 at both tasks. References do not hide any, so that it tells optimizers apart that do not beat the base.

References are no members of either, as they are the same for all.

`auto` is what a search file without an optimizer has; `cma` is CMA-ES on the weighted mean of both.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from evomerge.optimizers import hypervolume
from evomerge.records import Pool
from evomerge.run import Run, search

QUICKSTART = Path(__file__).resolve().parent.parent / "experiments" / "quickstart"
OPTIMIZERS = ("auto", "nsga2", "cma")
TASKS = ("zoo_add", "zoo_kanji")
POOLS = {"search": 256, "select": 256, "report": 512}
FINALISTS = 8
ABOVE_ZERO = "hypervolume_above_zero"


def search_file(optimizer: str, seed: int, items: int) -> dict[str, Any]:
    """Return the search of one optimizer."""
    data: dict[str, Any] = yaml.safe_load((QUICKSTART / "search.yaml").read_text(encoding="utf-8"))
    parents = data["parents"]
    if not (QUICKSTART / parents["base"]).exists():
        sys.exit(f"{QUICKSTART / parents['base']} is missing; train the zoo: python scripts/train_zoo.py quickstart")
    models = [str(QUICKSTART / model) for model in parents["models"]]
    return data | {
        "parents": {"base": str(QUICKSTART / parents["base"]), "models": models},
        "tasks": [{"task": task, "metric": "acc"} for task in TASKS],
        "task_path": str(QUICKSTART / data["task_path"]),
        "pools": POOLS,
        "optimizer": optimizer,
        "budget": {"items": items},
        "proof": {"finalists": FINALISTS, "front": True, "race": "off"},
        "workers": {"count": 0, "batch_size": 128},
        "seed": seed,
    }


def found_by(run: Run, pool: Pool, members: Collection[int]) -> list[list[float]]:
    """Return what some candidates scored at each task on a pool, those left out that are references or lack scores."""
    names = [objective.name for objective in run.objectives]
    return [
        [candidate.scores[pool][name].value for name in names]
        for candidate in run.candidates()
        if candidate.id in members and candidate.kind in ("candidate", "mean") and pool in candidate.scores
    ]


def base_of(run: Run) -> list[float]:
    """Return the base's scores on the report pool; the base is the first reference."""
    base = min((known for known in run.candidates() if known.kind == "parent"), key=lambda known: known.id)
    return [base.scores["report"][objective.name].value for objective in run.objectives]


def measured(optimizer: str, seed: int, items: int) -> dict[str, Any]:
    """Search once, and return the front with its hypervolumes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "search.yaml"
        file.write_text(yaml.safe_dump(search_file(optimizer, seed, items)), encoding="utf-8")
        run = search(file, Path(folder) / "run")
        if run.state != "done":  # Ctrl-C or SIGTERM: its references have no report scores yet
            sys.exit(f"{optimizer}, seed {seed}: stopped while {run.state}; what was measured before is kept")
        base, members = base_of(run), found_by(run, "report", {member.id for member in run.front})
        finalists = found_by(run, "select", run.finalists)
        spent = run.cost()["items"]["search"]
        used = run.fact("identity", {}).get("optimizer")
        run.close()
    return {
        "optimizer": optimizer,
        "seed": seed,
        "budget": items,
        "items": spent,
        "used": used,
        "front": members,
        "base": base,
        "finalists": finalists,
        "hypervolume": hypervolume(members, base),
        ABOVE_ZERO: hypervolume(finalists, [0.0] * len(TASKS)),
    }


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the medians over seeds, and each seed's hypervolumes, as a Markdown table."""
    rows = list(rows)
    heads = ["optimizer", "seeds", "members, median"]
    for place in ("base", "0"):
        heads += [f"hypervolume above {place}, median", "by seed", "seeds where auto is at least as good"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for optimizer in dict.fromkeys(row["optimizer"] for row in rows):
        own = [row for row in rows if row["optimizer"] == optimizer]
        cells = [optimizer, str(len(own)), f"{statistics.median(len(row['front']) for row in own):g}"]
        for key in ("hypervolume", ABOVE_ZERO):
            ours = {row["seed"]: row[key] for row in rows if row["optimizer"] == "auto"}
            paired = [ours[row["seed"]] >= row[key] for row in own if row["seed"] in ours]
            volumes = [row[key] for row in own]
            cells += [
                f"{statistics.median(volumes):.3f}",
                ", ".join(f"{volume:.3f}" for volume in volumes),
                "" if optimizer == "auto" else f"{sum(paired)} of {len(paired)}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--items", type=int, default=6000, help="of the search pool, references included")
    parser.add_argument("--json", type=Path, help="file that results are added to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    rows = [row for row in rows if ABOVE_ZERO in row]  # an older file has none: its rows are measured again
    known = {(row["optimizer"], row["seed"], row["budget"]) for row in rows}
    for seed in range(options.seeds):
        for optimizer in options.optimizers:
            if (optimizer, seed, options.items) in known:
                continue
            rows.append(measured(optimizer, seed, options.items))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1))
    print(table([row for row in rows if row["budget"] == options.items]))


if __name__ == "__main__":
    main()
