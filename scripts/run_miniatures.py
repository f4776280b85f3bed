"""Run the miniatures of published set-ups and write their results into their README files.

    python scripts/run_miniatures.py [--only planted_stack/search] [--workers 0]

Each is a search file under `experiments/` that runs in minutes on two cores. A run is kept in `runs/miniatures/` and
resumed if it was interrupted; delete its folder to run it again. The table between the two marks of each README is
replaced, for the files that were run. For stacks, the exported folder is compared with the live model, bit for bit.
"""

import argparse
import importlib.util
import re
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

import evomerge
from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan
from evomerge.records import Candidate
from evomerge.run import Run

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS, RUNS = ROOT / "experiments", ROOT / "runs" / "miniatures"
MINIATURES = (
    "planted_stack/search",
    "planted_stack/paper_order",
    "planted_stack/moves",
    "sakana_miniature/parameter_space",
    "sakana_miniature/data_flow",
    "sakana_miniature/hybrid",
)
BEGIN, END = "<!-- results of scripts/run_miniatures.py -->", "<!-- end of results -->"
HEADER = (
    "| file | genes | optimizer | candidates | best parent | best simple merge | pick | gain, 95% interval | layers | "
    "export = live | minutes |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def prepare(folder: Path) -> None:
    """Make the parents of an experiment that brings a script for them."""
    script = folder / "make_parents.py"
    if script.exists():
        spec = importlib.util.spec_from_file_location("make_parents", script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.main()


def export_equals_live(run: Run) -> bool:
    """Export the pick and compare every tensor with the live model of its recipe."""
    assert run.pick is not None
    recipe = run.recipe(run.pick)
    parents = Parents(recipe.models, recipe.root, recipe.commits)
    live = LiveModel(parents)
    live.apply(make_plan(recipe, parents))
    with tempfile.TemporaryDirectory() as temporary:
        written = load_file(evomerge.export(run.path, Path(temporary) / "pick")[0] / "model.safetensors")
        return all(torch.equal(tensor, live.tensor(name)) for name, tensor in written.items())


def row(name: str, run: Run, seconds: float) -> str:
    """Return the table row of a finished run: means over objectives, on the report pool if scored there."""
    pick, verdict = run.pick, run.verdict
    assert pick is not None and verdict is not None

    def mean(candidate: Candidate) -> float:
        scores = (run.mean_score(candidate, pool) for pool in ("report", "search"))
        return next((score for score in scores if score is not None), 0.0)

    def best(kind: str) -> str:
        return f"{max((mean(known) for known in run.candidates() if known.kind == kind), default=0.0):.3f}"

    recipe = run.recipe(pick)
    stacked = len(recipe.slices) > 1
    layers = sum(
        part.sources[0].layers[1] - part.sources[0].layers[0] for part in recipe.slices if part.sources[0].layers
    )
    low, high = verdict["interval"]
    cells = [
        f"`{name}`",
        str(len(run.fact("coordinates"))),
        run.fact("optimizer"),
        str(sum(known.kind == "candidate" for known in run.candidates())),
        best("parent"),
        best("simple"),
        f"**{mean(pick):.3f}** ({pick.name})",
        f"{verdict['gain']:+.3f}, {low:+.3f} to {high:+.3f}",
        str(layers) if stacked else "-",
        ("yes" if export_equals_live(run) else "NO") if stacked else "-",
        f"{seconds / 60:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def write(folder: Path, rows: dict[str, str]) -> None:
    """Replace rows of the table in an experiment's README; rows of files that were not run stay."""
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    known = {name: line for line, name in re.findall(r"^(\| `([^`]+)` .*)$", old, re.MULTILINE)} | rows
    names = [miniature.partition("/")[2] for miniature in MINIATURES if miniature.startswith(f"{folder.name}/")]
    table = "\n".join([HEADER, *(known[name] for name in names if name in known)])
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Run what was asked for, one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=MINIATURES, default=MINIATURES)
    parser.add_argument("--workers", type=int, help="worker processes; 0 = in this one")
    options = parser.parse_args()
    for name in options.only:
        folder, _, file = name.partition("/")
        prepare(EXPERIMENTS / folder)
        run = evomerge.search(EXPERIMENTS / f"{name}.yaml", RUNS / name, workers=options.workers)
        write(EXPERIMENTS / folder, {file: row(file, run, run.summary().seconds)})
        print(f"{name}: {run.verdict['text'] if run.verdict else run.state}", file=sys.stderr)


if __name__ == "__main__":
    main()
