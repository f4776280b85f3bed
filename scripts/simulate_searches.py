"""Measure what whole searches claim, and how far their reported gains are from the true ones.

    python scripts/simulate_searches.py                       # 200 searches of each null landscape, 100 planted ones
    python scripts/simulate_searches.py --runs 20 --jobs 2 --json found.json

Each run is the product with its defaults (`evomerge.search`: references, loop, proof, verdict) on a landscape
(`evomerge.testing.landscapes`), where every true accuracy is known exactly; only the executor pretends. On null
landscapes each point that is no reference is as good as the best reference and no better, so that every claim is a
false one. On planted ones there is something to find: "reported - true" is the verdict's gain less the true gain over
the same reference, "raw search score" what the best score that the search saw says too much of its candidate.

With --json, measured results are added to a file, and what it holds already is not measured again.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from evomerge.run import Executor, Run, Setup, search
from evomerge.testing.landscape_search import LandscapeExecutor, landscape_file, weights_of
from evomerge.testing.landscapes import Landscape, NullLandscape

DIMENSIONS = 8
POOLS = {"search": 500, "select": 256, "report": 512}
BUDGET_ITEMS = 3000
RHO, NOISE = 0.6, 0.5
GAPS = {"all equal": 0.0, "2 points apart": 0.02, "3 points apart": 0.03}
PLANTED = "planted optimum"


def landscape_of(name: str, setup: Setup, seed: int) -> Landscape:
    """Return a landscape for a search; on a null one the base is the best reference."""
    sizes = {
        "search_items": POOLS["search"] + POOLS["select"],
        "held_out_items": POOLS["report"],
        "rho": RHO,
        "noise": NOISE,
    }
    if name == PLANTED:
        return Landscape(DIMENSIONS, seed=seed, **sizes)
    base = str(setup.refs[0])
    points = [weights_of(reference.document, base, DIMENSIONS) for reference in setup.references]
    gaps = [0.0, *[GAPS[name]] * (len(points) - 1)]
    return NullLandscape(DIMENSIONS, seed=seed, gaps=gaps, references=points, **sizes)


def measure(name: str, seed: int) -> dict[str, Any]:
    """Run one search to its verdict and compare it with the truth."""
    landscapes: list[Landscape] = []

    def executor(setup: Setup) -> Executor:
        landscapes.append(landscape_of(name, setup, seed))
        return LandscapeExecutor(landscapes[0], str(setup.refs[0]))

    with tempfile.TemporaryDirectory() as temporary:
        data, space = landscape_file(
            DIMENSIONS, Path(temporary), seed=seed, pools=POOLS, budget={"items": BUDGET_ITEMS}
        )
        run = search(data, Path(temporary) / "run", space=space, executor=executor)
        return {"landscape": name, "seed": seed, **facts_of(run, landscapes[0], data["parents"]["base"])}


def facts_of(run: Run, landscape: Landscape, base: str) -> dict[str, Any]:
    """Return what a run claims, and how far what it says is from the truth."""
    candidates = {candidate.id: candidate for candidate in run.candidates()}
    truth = {
        identity: landscape.accuracy(weights_of(candidate.recipe, base, landscape.dimensions))
        for identity, candidate in candidates.items()
    }
    pick, verdict = run.pick, run.verdict
    assert pick is not None and verdict is not None
    comparisons = [
        {"gain": row["gain"], "interval": row["interval"], "true": truth[pick.id] - truth[row["id"]]}
        for row in verdict["comparisons"]
    ]
    hardest = min(comparisons, key=lambda row: row["interval"][0])
    raw = {
        identity: score.value
        for identity, candidate in candidates.items()
        for score in candidate.scores.get("search", {}).values()
        if candidate.kind == "candidate"
    }
    best = max(raw, key=lambda identity: raw[identity])
    return {
        "claimed": verdict["claimed"],
        "kept": pick.kind in ("parent", "simple"),
        "pick": truth[pick.id],
        "comparisons": comparisons,
        "reported_less_true": hardest["gain"] - hardest["true"],
        "raw_less_true": raw[best] - truth[best],
        "candidates": len(raw),
    }


def row_of(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    """Return a landscape's results as a row of the table."""
    comparisons = [comparison for run in found for comparison in run["comparisons"]]
    covered = [row["interval"][0] <= row["true"] <= row["interval"][1] for row in comparisons]
    above = [row["interval"][0] > row["true"] for row in comparisons]
    cells = [
        name,
        str(len(found)),
        f"{100 * statistics.mean(run['claimed'] for run in found):.1f}%",
        f"{100 * statistics.mean(run['kept'] for run in found):.0f}%",
        f"{100 * statistics.mean(covered):.1f}%",
        f"{100 * statistics.mean(above):.1f}%",
        f"{100 * statistics.median(run['reported_less_true'] for run in found):+.2f}",
        f"{100 * statistics.median(run['raw_less_true'] for run in found):+.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure what is missing, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="of each landscape; default: 200, and 100 with a planted optimum")
    parser.add_argument("--landscapes", nargs="+", choices=[*GAPS, PLANTED], default=[*GAPS, PLANTED])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="file that results are added to")
    given = parser.parse_args()
    rows = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    known = {(row["landscape"], row["seed"]) for row in rows}
    wanted = [
        (name, seed) for name in given.landscapes for seed in range(given.runs or (100 if name == PLANTED else 200))
    ]
    with ProcessPoolExecutor(max_workers=given.jobs) as pool:
        futures = [
            pool.submit(measure, name, seed) for name, seed in sorted(set(wanted) - known, key=lambda job: job[1])
        ]
        for future in as_completed(futures):
            rows.append(future.result())
            if given.json:
                given.json.write_text(json.dumps(rows))
            print(f"{len(rows)} of {len(wanted)}", file=sys.stderr, flush=True)
    print(
        "| references | searches | claimed | a reference kept | intervals that hold the true gain | that lie above it "
        "| reported - true gain, median, points | raw search score - truth, median, points |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in given.landscapes:
        print(row_of(name, [row for row in rows if row["landscape"] == name]))


if __name__ == "__main__":
    main()
