"""Levels of a space: linear maps into the genes, exact where coarse spaces lie inside the fine one."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evomerge.errors import InvalidFile
from evomerge.recipe import value_at
from evomerge.records import Level, Point
from evomerge.space import MergeSpace, build_space, read_space
from tests.space.parents import summary

LAYERS = 5


BASE, ONE, TWO = (summary(name, LAYERS) for name in ("base", "one", "two"))
TENSORS = [
    "model.embed_tokens.weight",
    *(f"model.layers.{k}.{part}" for k in range(LAYERS) for part in ("self_attn.q_proj", "mlp.up_proj", "norm")),
    "lm_head.weight",
]


def built(data: Any) -> MergeSpace:
    space = build_space(data, "space", BASE, (ONE, TWO))
    assert isinstance(space, MergeSpace)
    return space


def auto() -> MergeSpace:
    return built(read_space("auto", Path(), "search.yaml")[0])


def moved(level: Level, numbers: list[float]) -> Point:
    """Return the point of the whole space whose coordinates the level's numbers give."""
    return Point(reals=tuple(float(x) for x in np.array(level.weights) @ np.array(numbers)))


def weight(recipe: dict[str, Any], model: int, tensor: str) -> float:
    """Return a recipe's weight of a model in a tensor."""
    layer = int(tensor.split(".")[2]) if "layers" in tensor else 0
    found = value_at(recipe["models"][model]["parameters"]["weight"], tensor, layer / (LAYERS - 1))
    assert isinstance(found, float)
    return found


def test_auto_goes_from_models_to_module_groups_to_curves_to_layers() -> None:
    space = auto()
    assert [(level.name, level.size) for level in space.levels] == [
        ("models", 2),
        ("models x module groups", 6),
        ("models x curves of 3 knots over depth", 6),
        ("models x layers", 2 * (LAYERS + 1)),
    ]
    for level in space.levels:
        weights = np.array(level.weights)
        assert weights.shape == (space.domain.reals, level.size)
        assert np.allclose(weights.sum(axis=1), 1) and (weights >= 0).all() and (weights.sum(axis=0) > 0).all()
    assert pickle.loads(pickle.dumps(space)) == space


@pytest.mark.parametrize(
    ("level", "per"),
    [
        (0, ["model"]),
        (1, ["model", "module"]),
        (3, ["model", "layer"]),
    ],
)
def test_a_point_of_a_level_is_the_merge_of_the_space_of_that_level(level: int, per: list[str]) -> None:
    space = auto()
    coarse = built({"method": "task_arithmetic", "genes": {"weight": {"per": per, "range": [0, 1.5]}}})
    numbers = np.random.default_rng(level).uniform(size=space.levels[level].size).round(4).tolist()
    fine = space.decode(moved(space.levels[level], numbers))
    plain = coarse.decode(Point(reals=tuple(numbers)))
    for model in (0, 1):
        for tensor in TENSORS:
            assert weight(fine, model, tensor) == weight(plain, model, tensor), tensor


def test_curves_are_those_of_the_curve_space_in_every_block() -> None:
    """Up to the grid that values snap to. Outside of the blocks there is no depth: the mean of the curve."""
    space = auto()
    coarse = built(
        {"method": "task_arithmetic", "genes": {"weight": {"per": ["model", {"curve": 3}], "range": [0, 1.5]}}}
    )
    numbers = [0.1, 0.9, 0.3, 0.6, 0.0, 1.0]
    fine, plain = space.decode(moved(space.levels[2], numbers)), coarse.decode(Point(reals=tuple(numbers)))
    for model in (0, 1):
        for tensor in TENSORS:
            if "layers" in tensor:
                assert weight(fine, model, tensor) == pytest.approx(weight(plain, model, tensor), abs=1.5e-4)
    assert weight(fine, 0, "lm_head.weight") == pytest.approx(1.5 * (0.1 + 0.9 + 0.3) / 3, abs=1e-4)


def test_genes_that_a_level_does_not_divide_move_as_one() -> None:
    space = built(
        {
            "method": "ties",
            "genes": {"weight": {"per": ["model", "layer"]}, "density": {"per": ["model"]}},
            "levels": [[], ["model"], ["model", "layer"]],
        }
    )
    assert [level.size for level in space.levels] == [2, 4, 2 * (LAYERS + 1) + 2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": [["module"]]}, "no gene has module in its per"),
        ({"levels": [["model", "layer", {"curve": 3}]]}, "layer and curve both divide the depth"),
        ({"method": ["ties", "task_arithmetic"], "levels": [["model"]]}, "cannot be used with several methods"),
        ({"genes": {"weight": {"per": ["model"]}}, "levels": [[{"curve": 3}]]}, "no gene has layer in its per"),
    ],
)
def test_levels_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    data = {"method": "task_arithmetic", "genes": {"weight": {"per": ["model", "layer"]}}, **changes}
    with pytest.raises(InvalidFile, match=said):
        built(data)


def test_a_stack_has_no_levels() -> None:
    with pytest.raises(InvalidFile, match="no levels"):
        build_space(
            {"method": "passthrough", "genes": {"gain": {"per": "layer"}}, "levels": [["layer"]]}, "space", BASE, (ONE,)
        )
