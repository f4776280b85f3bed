"""The average of two merges of a space is one merge of the same parents where that is exact; else there is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan
from evomerge.errors import InvalidFile
from evomerge.recipe import parse_recipe
from evomerge.records import Domain, Point
from evomerge.run import check_search, search
from evomerge.space import MergeSpace, build_space
from tests.run.pico_search import task, write_search

EXACT: dict[str, dict[str, Any]] = {
    "task arithmetic by layer": {
        "method": "task_arithmetic",
        "genes": {"weight": {"per": ["model", "layer"], "range": [0, 1.5]}},
    },
    "a curve, scaled": {
        "method": "task_arithmetic",
        "genes": {"weight": {"per": ["model", {"curve": 3}], "range": [-0.5, 1.5]}},
        "parameters": {"lambda": 0.7},
    },
    "on a logarithmic scale": {
        "method": "task_arithmetic",
        "genes": {"weight": {"per": "model", "range": [0.01, 2], "scale": "log"}},
    },
    "a weighted average": {
        "method": "linear",
        "genes": {"weight": {"per": ["model", "module"], "range": [0, 1]}},
    },
    "a plain sum": {
        "method": "linear",
        "genes": {"weight": {"per": ["model", {"curve": 2}], "range": [0, 1]}},
        "parameters": {"normalize": False},
    },
    "a total": {
        "method": "linear",
        "genes": {"weight": {"per": "model", "range": [0, 1], "total": 1}},
    },
}
WITHOUT: dict[str, dict[str, Any]] = {
    "signs are elected": {
        "method": "ties",
        "genes": {"weight": {"per": "model", "range": [0, 1]}},
        "parameters": {"density": 0.5},
    },
    "divided by a sum of curves": {
        "method": "linear",
        "genes": {"weight": {"per": ["model", {"curve": 2}], "range": [0.1, 1]}},
    },
    "task vectors divided by the sum": {
        "method": "task_arithmetic",
        "genes": {"weight": {"per": "model", "range": [0.1, 1]}},
        "parameters": {"normalize": True},
    },
    "another gene": {
        "method": "task_arithmetic",
        "genes": {"weight": {"per": "model", "range": [0, 1]}, "lambda": {"range": [0.5, 1]}},
    },
    "two methods": {"method": ["linear", "task_arithmetic"], "genes": {"weight": {"per": "model", "range": [0.1, 1]}}},
    "parents that switch": {
        "method": "task_arithmetic",
        "genes": {"weight": {"per": "model", "range": [0, 1]}},
        "parents": {"least": 1},
    },
}


@pytest.fixture(scope="module")
def parents(pico: dict[str, Path]) -> Parents:
    return Parents([parse_recipe(passed(pico[name])).models[0] for name in ("base", "one", "two")])


def passed(folder: Path) -> dict[str, Any]:
    return {"merge_method": "passthrough", "models": [{"model": str(folder)}]}


def built(data: dict[str, Any], parents: Parents) -> MergeSpace:
    base, *models = (parents[ref].summary(digest=False) for ref in parents)
    space = build_space({**data, "dtype": "float32"}, "space", base, models)
    assert isinstance(space, MergeSpace)
    return space


def tensors(space: MergeSpace, point: Point, live: LiveModel) -> dict[str, torch.Tensor]:
    plan = make_plan(parse_recipe(space.decode(point)), live.parents)
    return {name: tensor.clone() for name, tensor in live.tensors(plan)}


def points(domain: Domain, count: int = 3) -> list[Point]:
    generator = np.random.Generator(np.random.PCG64(1))
    return [Point(reals=tuple(map(float, 0.05 + 0.9 * generator.random(domain.reals)))) for _ in range(count)]


@pytest.mark.parametrize("name", EXACT)
def test_it_has_the_mean_of_all_weights(name: str, parents: Parents) -> None:
    space, live = built(EXACT[name], parents), LiveModel(parents)
    chosen = points(space.domain)
    middle = space.averaged(chosen)
    assert middle is not None
    merges = [tensors(space, point, live) for point in chosen]
    for tensor, found in tensors(space, middle, live).items():
        mean = sum(merge[tensor] for merge in merges) / len(merges)
        assert isinstance(mean, torch.Tensor)
        torch.testing.assert_close(found, mean, rtol=1e-3, atol=2e-4, msg=tensor)  # the grid has 10,000 steps
        assert not torch.allclose(found, merges[0][tensor], rtol=1e-3, atol=2e-4) or tensor.endswith("norm.weight")


@pytest.mark.parametrize("name", WITHOUT)
def test_what_is_not_exact_has_none(name: str, parents: Parents) -> None:
    space = built(WITHOUT[name], parents)
    assert space.averaged([space.start, space.start]) is None


def test_weights_that_cannot_be_normalized_alike_have_none(parents: Parents) -> None:
    """Weights 1 and 1 against 1 and 0.5, at least 0.5: half of the mean of their shares would be too little."""
    genes = {"weight": {"per": "model", "range": [0.5, 1]}}
    space = built({"method": "linear", "genes": genes}, parents)
    one, other = Point(reals=(1.0, 0.0)), Point(reals=(0.0, 0.0))
    assert space.averaged([one, one]) == one
    assert space.averaged([one, other]) is None


def test_averages_of_front_members_are_finalists(pico: dict[str, Path], tmp_path: Path) -> None:
    tasks = [task("nearness"), task("otherness")]
    proof = {"finalists": 4, "merges": 2, "front": True}
    file = write_search(tmp_path, pico, tasks=tasks, optimizer="nsga2", proof=proof)
    run = search(file, tmp_path / "run")
    averages = [candidate for candidate in run.candidates() if candidate.name.startswith("the average of ")]
    assert len(averages) == 2
    known = {candidate.id: candidate for candidate in run.candidates()}
    space = check_search(file).space
    for candidate in averages:
        a, b = (known[int(word)] for word in candidate.name.split() if word.isdigit())
        assert candidate.id in run.finalists and set(candidate.scores) >= {"select"} and candidate.kind == "mean"
        assert candidate.recipe == space.decode(space.averaged([a.point, b.point]))  # type: ignore[attr-defined]
    again = search(file, tmp_path / "run")
    assert [c.name for c in again.candidates()] == [c.name for c in run.candidates()]


def test_a_wish_without_an_effect_is_refused(pico: dict[str, Path], tmp_path: Path) -> None:
    two = {"tasks": [task("nearness"), task("otherness")]}
    for changes, said in (
        ({}, "one task has no front"),
        ({**two, "space": WITHOUT["signs are elected"]}, "no merge of the same parents"),
    ):
        with pytest.raises(InvalidFile, match=f"proof.merges: .*{said}"):
            check_search(write_search(tmp_path, pico, proof={"merges": 1}, **changes))
