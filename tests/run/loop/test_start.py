"""Where a search starts: at the best reference that its space contains, whatever the optimizer."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import InvalidFile
from evomerge.run import LEDGER, Run, check_search, search
from evomerge.testing.faults import DriverDied, faulty
from tests.run.pico_search import write_search

MEANS = ("cma", "cmaes_lra", "catcma")
PROPOSALS = ("tpe", "gp", "nsga2", "nsga3")


def best_reference(run: Run) -> Any:
    """Return the reference of a run with the highest score on search items, of those that its space contains."""
    contained = check_search(run.path.parent / "search.yaml").reference_points
    scored = [c for c in run.candidates() if c.name in contained and "search" in c.scores]
    return max(scored, key=lambda c: sum(score.value for score in c.scores["search"].values()))


@pytest.mark.parametrize("optimizer", [*MEANS, *PROPOSALS])
def test_a_search_starts_at_the_best_reference(pico: dict[str, Path], tmp_path: Path, optimizer: str) -> None:
    file = write_search(tmp_path, pico, optimizer=optimizer, budget={"candidates": 12}, proof={"finalists": 1})
    run = search(file, tmp_path / "run")
    start = run.fact("start")
    assert start["name"] == best_reference(run).name
    points = [c.point.reals for c in run.candidates() if c.kind == "candidate"]
    distances = [sum((a - b) ** 2 for a, b in zip(p, start["point"]["reals"], strict=True)) for p in points]
    if optimizer in PROPOSALS:
        assert distances[0] == 0
    else:
        middle = [sum((a - 0.5) ** 2 for a in p) for p in points[:6]]
        assert sum(distances[:6]) < sum(middle)


@pytest.mark.parametrize("optimizer", ["guided", "cma", "tpe"])
def test_a_search_begins_where_the_space_says_if_asked_to(
    pico: dict[str, Path], tmp_path: Path, optimizer: str
) -> None:
    options = {"name": optimizer, "begin": "space"}
    file = write_search(tmp_path, pico, optimizer=options, budget={"candidates": 4}, proof={"finalists": 1})
    setup, run = check_search(file), search(file, tmp_path / "run")
    assert not setup.informed and not setup.adaptive_subsets and run.fact("start") is None
    references = [c for c in run.candidates() if c.kind in ("parent", "simple")]
    assert all(c.scores["search"]["nearness"].n == len(setup.prepared.pools["nearness"]["search"]) for c in references)
    first = next(c.point for c in run.candidates() if c.kind == "candidate")
    if optimizer != "cma":
        assert first == setup.space.start


@pytest.mark.parametrize("optimizer", ["cma", "tpe"])
def test_a_run_that_began_where_the_space_says_goes_on_so(
    pico: dict[str, Path], tmp_path: Path, optimizer: str
) -> None:
    """As runs did before there was the option: neither start nor size of subsets changes in the middle."""
    changes: dict[str, Any] = {"subset": {}, "budget": {"candidates": 14}, "proof": {"finalists": 1}}
    former = write_search(tmp_path, pico, optimizer={"name": optimizer, "begin": "space"}, **changes)
    whole = search(former, tmp_path / "whole")
    with pytest.raises(DriverDied):
        search(former, tmp_path / "run", executor=faulty({14: "driver dies"}))
    with closing(sqlite3.connect(tmp_path / "run" / LEDGER)) as db, db:
        db.execute("UPDATE meta SET value = json_remove(value, '$.optimizer.begin') WHERE key = 'identity'")
    run = search(write_search(tmp_path, pico, optimizer=optimizer, **changes), tmp_path / "run")
    found = [
        [(c.point, c.scores["search"]) for c in each.candidates() if c.kind == "candidate"] for each in (whole, run)
    ]
    assert found[0] == found[1] and len(found[0]) == 14


@pytest.mark.parametrize(("optimizer", "items"), [("random", 16), ("cma", 16), ("cma", 64)])
def test_a_budget_that_the_references_use_up_is_refused(
    pico: dict[str, Path], tmp_path: Path, optimizer: str, items: int
) -> None:
    """References are scored on the whole search pool, or on 32 of its items where subsets grow."""
    pools = {"search": items, "select": 16, "report": 16}
    changes: dict[str, Any] = {"optimizer": optimizer, "pools": pools, "subset": {}}
    setup = check_search(write_search(tmp_path, pico, **changes))
    used = len(setup.references) * min(items, 32 if optimizer == "cma" else items) * len(setup.objectives)
    with pytest.raises(InvalidFile, match=f"budget.items: found {used:,}, which is spent before the first candidate"):
        check_search(write_search(tmp_path, pico, budget={"items": used}, **changes))
    check_search(write_search(tmp_path, pico, budget={"items": used + 1}, **changes))
