"""Compare optimizers on planted landscapes: the expected accuracy of what each would return after 2,000 candidates.

    python scripts/bench_optimizers.py                                        # every bed and optimizer: an hour or two
    python scripts/bench_optimizers.py --beds stack-18 --optimizers catcma tpe --json found.json

Beds (`evomerge.testing.landscapes`): reals alone, reals with integers and choices, choices alone, and a stack, where a
gain counts only where its block is chosen. A candidate is scored on 64 of 1,000 items, shared by its generation. What
an optimizer returns is its mean, or else the point with the best score. Random search is the bar for all others.

With --json, measured results are added to a file, and what it holds already is not measured again.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.errors import InvalidInput
from evomerge.optimizers import OPTIMIZERS, ItemOptimizer, ItemValue, create, get
from evomerge.records import Domain
from evomerge.testing.landscapes import MixedLandscape

BUDGET, ITEMS, SEEDS = 2000, 64, 5
BEDS: Mapping[str, tuple[Domain, bool]] = {
    "reals-8": (Domain(reals=8), False),
    "reals-24": (Domain(reals=24), False),
    "mixed-24": (Domain(reals=12, integers=(5,) * 6, categories=(3,) * 6), False),
    "choices-24": (Domain(categories=(4,) * 24), False),
    "stack-18": (Domain(reals=18, categories=(2,) * 18), True),
}
SLOW = {"gp": 150}  # optimizer -> candidates that it gets: each costs it half a second and more


def measure(bed: str, name: str, seed: int) -> float | None:
    """Return the expected accuracy of what an optimizer returns; None if it cannot vary the bed's domain."""
    domain, gated = BEDS[bed]
    landscape = MixedLandscape(domain, seed=seed, gated=gated)
    try:
        optimizer = create(name, domain, objectives=1, seed=seed, start=None, options={})
    except InvalidInput:
        return None
    best, returned = -1.0, None
    for _ in range(SLOW.get(name, BUDGET)):
        proposal = optimizer.ask()
        items = np.random.default_rng([seed, proposal.generation]).choice(landscape.search_items, ITEMS, replace=False)
        right = (landscape.margins(landscape.embedded(proposal.point), items) > 0).astype(float)
        if isinstance(optimizer, ItemOptimizer):
            earned = {str(item): ItemValue(float(value), 1.0) for item, value in zip(items, right, strict=True)}
            optimizer.tell_items(proposal.number, earned)
        score = float(right.mean())
        if score > best:
            best, returned = score, proposal.point
        optimizer.tell(proposal.number, (score,))
    mean = optimizer.mean()
    point = returned if mean is None else mean
    assert point is not None
    return landscape.accuracy(landscape.embedded(point))


def table(rows: list[dict[str, Any]], beds: list[str]) -> str:
    """Return the medians over seeds, and how many seeds beat random search, as a Markdown table."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row["accuracy"] is not None:
            found.setdefault((row["optimizer"], row["bed"]), {})[row["seed"]] = row["accuracy"]
    lines = ["| optimizer | " + " | ".join(beds) + " |", "|---" * (len(beds) + 1) + "|"]
    for name in OPTIMIZERS:
        cells = []
        for bed in beds:
            scores, chance = found.get((name, bed), {}), found.get(("random", bed), {})
            beats = sum(scores[seed] > chance[seed] for seed in scores if seed in chance)
            text = f"{statistics.median(scores.values()):.3f}" if scores else "-"
            cells.append(text if not scores or name == "random" else f"{text} ({beats}/{len(scores)})")
        if any(cell != "-" for cell in cells):
            candidates = f", {SLOW[name]} candidates" if name in SLOW else ""
            lines.append(f"| {name}{candidates} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beds", nargs="+", choices=BEDS, default=list(BEDS))
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=[*OPTIMIZERS])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--json", type=Path, help="file that results are added to")
    options = parser.parse_args()
    rows = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    known = {(row["bed"], row["optimizer"], row["seed"]) for row in rows}
    for seed in range(options.seeds):
        for bed in options.beds:
            for name in options.optimizers:
                if (bed, name, seed) in known or get(name).max_dimensions:
                    continue
                rows.append({"bed": bed, "optimizer": name, "seed": seed, "accuracy": measure(bed, name, seed)})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1))
    print(table(rows, options.beds))


if __name__ == "__main__":
    main()
