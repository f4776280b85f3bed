"""Derivatives by recipe parameters become derivatives by genes, through filters, curves and logarithmic scales."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evomerge.engine import make_plan
from evomerge.methods import directions, get
from evomerge.records import Point
from evomerge.run import check_search
from evomerge.run.config import Setup
from evomerge.run.loop import GeneSlopes, gene_slopes
from tests.run.pico_search import write_search


def setup_of(folder: Path, pico: dict[str, Path], space: dict[str, Any]) -> Setup:
    return check_search(write_search(folder, pico, space=space))


def weight(**entry: Any) -> dict[str, Any]:
    return {"method": "task_arithmetic", "genes": {"weight": {"range": [0, 1.5], **entry}}}


SPACES: dict[str, dict[str, Any]] = {
    "product": weight(per=["model", "layer", {"groups": ["q_proj", "mlp."]}]),
    "curve": weight(per=["model", "module", {"curve": 3}]),
    "log": weight(per=["model", {"bands": 2}], range=[0.01, 1.5], scale="log"),
    "log and linear": {
        "method": "ties",
        "genes": {
            "weight": {"per": ["model"], "range": [0.05, 1.5], "scale": "log"},
            "lambda": {"range": [0.5, 1.5]},
            "density": {"range": [0.2, 1]},
        },
    },
}


@pytest.mark.parametrize("name", SPACES)
def test_the_chain_rule_agrees_with_differences(name: str, pico: dict[str, Path], tmp_path: Path) -> None:
    """Of a number that is linear in all smooth parameters of all tensors, with factors of its own for each."""
    setup = setup_of(tmp_path, pico, SPACES[name])
    slopes = gene_slopes(setup)
    assert isinstance(slopes, GeneSlopes)
    draws = np.random.default_rng(0)
    rows = len(make_plan(setup.recipe(setup.space.decode(setup.space.start)), setup.parents).tensors)
    table = draws.normal(size=(rows, len(slopes.directions)))

    def number(reals: list[float]) -> float:
        plan = make_plan(setup.recipe(setup.space.decode(Point(reals=tuple(reals)))), setup.parents)
        total = 0.0
        for row, tensor in enumerate(plan.tensors):
            for direction in directions(get(tensor.method), tensor.settings):
                own = tensor.settings.merge if direction.model is None else tensor.settings.parents[direction.model]
                if direction in slopes.directions:
                    total += table[row, slopes.directions.index(direction)] * float(dict(own)[direction.parameter])
        return total

    reals = draws.uniform(0.3, 0.7, setup.space.domain.reals).round(3).tolist()
    found = slopes.gradient(table, Point(reals=tuple(reals)))
    without = [name.split(" ")[0] == "density" for name in setup.space.coordinates]
    assert slopes.without == tuple(i for i, missing in enumerate(without) if missing)
    for gene in range(len(reals)):
        above, below = (number([u + step * (i == gene) for i, u in enumerate(reals)]) for step in (0.02, -0.02))
        expected = (above - below) / 0.04
        assert found[gene] == pytest.approx(expected, rel=0.02, abs=0.02), setup.space.coordinates[gene]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (weight(per="model", total=[0, 1]), "weight has a total"),
        ({**weight(per="model"), "parents": {"most": 1, "indicator": "real"}}, "whether a parent takes part"),
        (
            {"method": ["task_arithmetic", "linear"], "genes": {"weight": {"range": [0.1, 1]}}},
            "a choice has no derivative",
        ),
        ({"method": "model_stock", "genes": {"filter_wise": {}}}, "a choice has no derivative"),
    ],
)
def test_without_derivatives_the_reason_is_said(
    space: dict[str, Any], reason: str, pico: dict[str, Path], tmp_path: Path
) -> None:
    found = gene_slopes(setup_of(tmp_path, pico, space))
    assert isinstance(found, str) and reason in found
