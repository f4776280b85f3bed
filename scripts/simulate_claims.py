"""Measure how often a gain is claimed where there is none, and how often the intervals hold the true gain.

    python scripts/simulate_claims.py                    # 2,000 runs of each setting: half an hour on one core
    python scripts/simulate_claims.py --runs 200

Each run draws item scores of references and of 17 finalists from a model (`evomerge.testing.claims`), chooses the pick
on 256 select items and judges it on 512 report items with the code of a search's proof. No finalist is better than the
best reference, so that every claim is a false one. The last row shows what clusters are resampled together for.
"""

import argparse
from collections.abc import Iterator

from evomerge.testing.claims import ClaimSetting, simulate_claims

LANDSCAPES = {
    "all equal": ((0.60, 0.60, 0.60, 0.60), (0.60,)),
    "2 points apart": ((0.60, 0.58, 0.58, 0.58), (0.50,)),
    "3 points apart": ((0.60, 0.57, 0.57, 0.57), (0.50,)),
}
CLUSTER_SIZE = 10


def settings(resamples: int) -> Iterator[tuple[str, str, ClaimSetting]]:
    """Yield landscape, items and setting of each row."""
    rows = [(name, size, True) for size in (1, CLUSTER_SIZE) for name in LANDSCAPES]
    for name, size, known in [*rows, ("2 points apart", CLUSTER_SIZE, False)]:
        parents, simple = LANDSCAPES[name]
        items = "independent" if size == 1 else f"in clusters of {size}"
        yield (
            name,
            items if known else f"{items}, resampled one by one",
            ClaimSetting(parents=parents, simple=simple, cluster_size=size, clusters_known=known, resamples=resamples),
        )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000, help="Of each setting.")
    parser.add_argument("--resamples", type=int, default=1000, help="Of each interval.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| references | items | claimed | a reference kept | intervals that hold the true gain | that lie above it |")
    print("|---|---|---|---|---|---|")
    for name, items, setting in settings(given.resamples):
        found = simulate_claims(setting, runs=given.runs, seed=given.seed)
        print(
            f"| {name} | {items} | {100 * found.claimed:.2f}% | {100 * found.kept:.0f}% | {100 * found.covered:.1f}% "
            f"| {100 * found.above:.1f}% |",
            flush=True,
        )


if __name__ == "__main__":
    main()
