"""What a candidate costs: made in memory, scored, and how busy a search keeps its workers. Prints Markdown tables.

Usage: python scripts/bench_candidates.py [--parts PART ...] [--json FILE]
       python scripts/bench_candidates.py --device cuda [--layers 32] [--hidden 4096]

Parts, all by default:
  materialize  candidates of a base and three parents of 0.34 B parameters, one thread, over copying the parents' bytes
  share        the part of that in a candidate's whole time: the quickstart, and 0.3 B with four-choice items
  gradients    a gradient step's time and peak memory over a plain candidate's, 0.3 B with four-choice items
  memory       growth of the process over 200 candidates of the quickstart, and over 200 more
  evaluate     prepared scoring against lm_eval.simple_evaluate (bench_evaluate.py)
  workers      how busy two Ray workers are over the quickstart, or over the finished run that --run names
  driver       how busy the driver alone keeps simulated workers (bench_driver.py)

--device is another thing: parents made in that device's memory, 7 B-shaped by default, and candidates merged there.
This needs torch, safetensors and numpy only. Take timings on a quiet machine.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

LEAST_BUSY = 0.9

Row = Mapping[str, Any]


def materialize(options: argparse.Namespace) -> list[Row]:
    """Candidates in memory, over a copy."""
    from bench_resident import METHODS, materialize, random_parents

    with random_parents(options.layers or 24) as folder:
        return materialize(folder, tuple(options.methods or METHODS), options.repeats)


def share(options: argparse.Namespace) -> list[Row]:
    """The part of materialization in a candidate's time."""
    from bench_resident import random_parents, shares

    with random_parents(options.layers or 24) as folder:
        return shares(folder, options.items, options.repeats)


def gradients(options: argparse.Namespace) -> list[Row]:
    """Gradient steps over plain candidates."""
    from bench_gradients import gradient_steps
    from bench_resident import random_parents

    with random_parents(options.layers or 24) as folder:
        return gradient_steps(folder, options.items, options.repeats)


def memory(options: argparse.Namespace) -> list[Row]:
    """Growth over many candidates."""
    from bench_resident import growth

    return growth(options.candidates)


def evaluate(options: argparse.Namespace) -> list[Row]:
    """Prepared scoring against simple_evaluate."""
    from bench_evaluate import LEAST_SPEED_UP, MOST_OVER_FORWARDS, quickstart, versus_simple_evaluate

    found = versus_simple_evaluate(items=2 * options.items)
    rows: list[Row] = [
        {
            "items": found["items"],
            "s": found["seconds"],
            "simple_evaluate's rows a batch": rows,
            "its s": peer["seconds"],
            "times faster": peer["times_faster"],
            "goal": LEAST_SPEED_UP,
            "other answers": peer["other_answers"],
        }
        for rows, peer in found["simple_evaluate"].items()
    ]
    own = quickstart()
    ratio = {"over its forwards": own["over_forwards"], "goal": MOST_OVER_FORWARDS}
    return [*rows, {"quickstart candidate s": own["seconds"], "forwards s": own["forward_seconds"], **ratio}]


def workers(options: argparse.Namespace) -> list[Row]:
    """How busy a run kept its workers."""
    from bench_resident import QUICKSTART

    from evomerge.run import Run, search

    with tempfile.TemporaryDirectory() as temporary:
        file, out = QUICKSTART / "search.yaml", Path(temporary) / "run"
        found = (Run(options.run) if options.run else search(file, out, workers=2)).summary()
    minutes = found.seconds / 60
    pace = found.finished / minutes
    return [
        {"candidates": found.finished, "minutes": minutes, "a minute": pace, "busy": found.busy, "goal": LEAST_BUSY}
    ]


def driver(options: argparse.Namespace) -> list[Row]:
    """How busy the driver keeps simulated workers."""
    from bench_driver import simulate

    return [simulate(workers=256, seconds=1.0, candidates=5000)]


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "materialize": materialize,
    "share": share,
    "gradients": gradients,
    "memory": memory,
    "evaluate": evaluate,
    "workers": workers,
    "driver": driver,
}


def on_device(options: argparse.Namespace) -> list[Row]:
    """Candidates in a device's memory."""
    from bench_device import resident

    facts = resident(
        options.device, options.layers or 32, options.hidden, options.vocabulary, options.repeats, options.methods
    )
    rows = facts.pop("rows")
    print("; ".join(f"{key} {cell(value)}" for key, value in facts.items()))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return rows of one kind, or of several one below the other, as Markdown."""
    lines: list[str] = []
    head: list[str] = []
    for row in rows:
        if list(row) != head:
            head = list(row)
            lines += [*([""] if lines else []), f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines.append(f"| {' | '.join(cell(value) for value in row.values())} |")
    return "\n".join(lines)


def cell(value: Any) -> str:
    """Return a value as text: three digits of fractions, whole numbers whole."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def main() -> None:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--device", help="cuda, cuda:1, cpu: only candidates merged there")
    parser.add_argument(
        "--methods", nargs="+", help="of materialize and of --device; by default those with goals, more"
    )
    parser.add_argument("--layers", type=int, help="of the parents: 24 by default, 32 with --device")
    parser.add_argument("--hidden", type=int, default=4096, help="width of the parents of --device")
    parser.add_argument("--vocabulary", type=int, default=32000, help="of the parents of --device")
    parser.add_argument("--repeats", type=int, default=7, help="candidates whose median is taken")
    parser.add_argument(
        "--items",
        type=int,
        default=100,
        help="four-choice questions of share and gradients; evaluate takes twice as many",
    )
    parser.add_argument("--candidates", type=int, default=200, help="of memory")
    parser.add_argument("--run", type=Path, help="a finished run, for workers")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    parts = {"device": on_device} if options.device else {name: PARTS[name] for name in options.parts}
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, torch {torch.__version__}")
    found: dict[str, list[Row]] = {}
    for name, part in parts.items():
        print(f"\n### {name}: {(part.__doc__ or '').rstrip('.')}\n", flush=True)
        found[name] = part(options)
        print(table(found[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"command": sys.argv[1:], **found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
