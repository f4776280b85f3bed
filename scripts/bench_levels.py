"""Coarse to fine against everything at once, at equal items: `space: auto` and the same genes without its levels.

    python scripts/bench_levels.py                          # smooth and rough landscapes, the quickstart's zoo: hours
    python scripts/bench_levels.py --beds smooth --seeds 5 --json found.json

Beds: `smooth` and `rough` are landscapes (rho 0.6) of two models with 12 layers whose best weights change smoothly
over depth (a parabola for each model) or not at all so; `quickstart` and `natural` are the zoos, where the other
space is the one of their search files (a weight for each model and layer). Counted are items of the search, those
with a backward pass three times. The score is that of the mean of the distribution on held-out items at several
moments, and of the pick in the end.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bench_search import Bed, Found, held_out, landscape_bed, run_product, zoo_bed

from evomerge.records import Level
from evomerge.testing.landscape_search import LandscapeExecutor
from evomerge.testing.landscapes import Landscape

MODELS, LAYERS, KNOTS = 2, 12, 3
BUDGETS = {"smooth": 8000, "rough": 8000, "quickstart": 3000, "natural": 12000}
MOMENTS = (0.125, 0.25, 0.5, 1.0)  # of the budget
ITEMS = {"search_items": 1256, "held_out_items": 2000}


def over_depth(random: np.random.Generator) -> np.ndarray:
    """Return weights of a model's layers that change smoothly, within the middle of the cube."""
    depth = np.linspace(-1, 1, LAYERS)
    a, b, c = random.uniform(-1, 1, 3)
    return np.clip(0.5 + 0.2 * a + 0.2 * b * depth + 0.15 * c * (2 * depth**2 - 1), 0.05, 0.95)


def levels() -> tuple[Level, ...]:
    """Return the levels of `space: auto`: models, curves over depth, layers; there are no module groups here."""
    knots = np.linspace(0, 1, KNOTS)
    curve = np.array([[max(0.0, 1 - abs(t - knot) * (KNOTS - 1)) for knot in knots] for t in np.linspace(0, 1, LAYERS)])
    one = np.kron(np.eye(MODELS), np.ones((LAYERS, 1)))
    found = {"models": one, "curves": np.kron(np.eye(MODELS), curve), "layers": np.eye(MODELS * LAYERS)}
    return tuple(
        Level(name=name, weights=tuple(tuple(float(w) for w in row) for row in weights))
        for name, weights in found.items()
    )


def smooth_bed(name: str, seed: int, folder: Path, coarse: bool) -> Bed:
    """Return a landscape whose coordinates are the weights of the layers of two models."""
    bed = landscape_bed(MODELS * LAYERS, seed, folder, budget=BUDGETS[name])
    landscape = Landscape(MODELS * LAYERS, seed=seed, rho=0.6, **ITEMS)
    if name == "smooth":
        random = np.random.default_rng([seed, 3])
        landscape.move_optimum(np.concatenate([over_depth(random) for _ in range(MODELS)]))
    if coarse:
        bed.setup.space.levels = levels()  # type: ignore[attr-defined]
    return bed._replace(executor=LandscapeExecutor(landscape, str(folder / "base")))


def bed_of(name: str, seed: int, folder: Path, coarse: bool) -> Bed:
    """Return a bed by its name."""
    if name in ("smooth", "rough"):
        return smooth_bed(name, seed, folder, coarse)
    return zoo_bed(name, seed, budget=BUDGETS[name], **({"space": "auto"} if coarse else {}))


def curve_of(bed: Bed, found: Found, budget: int) -> list[float]:
    """Return the held-out score of the mean at each moment."""
    scores = []
    for moment in MOMENTS:
        known = [pick for pick in found.picks if pick.items <= moment * budget] or found.picks[:1]
        scores.append(held_out(bed, known[-1].point))
    return scores


def measured(name: str, seed: int, coarse: bool) -> dict[str, Any]:
    """Run the product once."""
    with tempfile.TemporaryDirectory() as folder:
        bed = bed_of(name, seed, Path(folder), coarse)
        found = run_product(bed)
        row = {"bed": name, "seed": seed, "coarse": coarse, "final": found.final, "items": found.items["search"]}
        return {**row, "curve": curve_of(bed, found, BUDGETS[name])}


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the medians over seeds as a Markdown table."""
    heads = [f"after {moment:.0%}" for moment in MOMENTS]
    lines = [
        "| bed | items | space | seeds | " + " | ".join(heads) + " | pick | against everything at once | worst seed |",
        "|" + "---|" * (len(heads) + 7),
    ]
    rows = list(rows)
    for bed in dict.fromkeys(row["bed"] for row in rows):
        direct = {row["seed"]: row["final"] for row in rows if row["bed"] == bed and not row["coarse"]}
        for coarse in (False, True):
            found = [row for row in rows if row["bed"] == bed and row["coarse"] == coarse]
            if not found:
                continue
            gains = [row["final"] - direct[row["seed"]] for row in found if coarse and row["seed"] in direct]
            cells = [
                bed,
                f"{BUDGETS[bed]:,}",
                "coarse to fine" if coarse else "everything at once",
                str(len(found)),
                *(f"{statistics.median(row['curve'][i] for row in found):.3f}" for i in range(len(MOMENTS))),
                f"{statistics.median(row['final'] for row in found):.3f}",
                f"{statistics.median(gains):+.3f}" if gains else "",
                f"{min(gains):+.3f}" if gains else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beds", nargs="+", choices=list(BUDGETS), default=["smooth", "rough", "quickstart"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file that results are added to")
    options = parser.parse_args()
    rows = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    known = {(row["bed"], row["seed"], row["coarse"]) for row in rows}
    for seed in range(options.seeds):
        for bed in options.beds:
            for coarse in (False, True):
                if (bed, seed, coarse) in known:
                    continue
                rows.append(measured(bed, seed, coarse))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
