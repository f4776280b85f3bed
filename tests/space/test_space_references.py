"""References are points of every space that contains them, and the point is the same merge, tensor by tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evomerge.api.merge import merge
from evomerge.checkpoint import open_model
from evomerge.recipe import ModelRef
from evomerge.records import ParentSummary
from evomerge.space import Reference, Space, build_space, reference_point, references
from tests.space.parents import summary

LAYERWISE = {"per": ["model", "layer"], "range": [0, 1.5]}
PRODUCT = {"per": ["model", {"groups": ["q_proj", "mlp."]}, {"bands": 2}], "range": [0, 1.5]}
DENSITY = {"per": "model", "range": [0.1, 1]}
WEIGHTS = ["base", "one", "two", "uniform average", *(f"task arithmetic {w}" for w in ("0.3", "0.5", "0.7", "1"))]
PARENTS = WEIGHTS[:3]

MODELS = ("one", "two")


def _summaries() -> tuple[ParentSummary, tuple[ParentSummary, ...]]:
    base, *models = (summary(name, 3) for name in ("base", *MODELS))
    return base, tuple(models)


CONTAINED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "task arithmetic by layer": ({"method": "task_arithmetic", "genes": {"weight": LAYERWISE}}, WEIGHTS),
    "task arithmetic by product": ({"method": "task_arithmetic", "genes": {"weight": PRODUCT}}, WEIGHTS),
    "ties": ({"method": "ties", "genes": {"weight": LAYERWISE, "density": DENSITY}}, PARENTS),
    "dare_ties": ({"method": "dare_ties", "genes": {"weight": PRODUCT, "density": DENSITY}}, PARENTS),
    "breadcrumbs": (
        {"method": "breadcrumbs", "genes": {"weight": LAYERWISE, "density": DENSITY}, "parameters": {"gamma": 0.01}},
        WEIGHTS,
    ),
    "dare_linear": ({"method": "dare_linear", "genes": {"weight": LAYERWISE, "density": DENSITY}}, WEIGHTS),
    "low densities": ({"method": "ties", "genes": {"weight": LAYERWISE, "density": {"range": [0.1, 0.9]}}}, []),
    "linear": ({"method": "linear", "genes": {"weight": LAYERWISE}}, [*WEIGHTS[1:4], WEIGHTS[5]]),
    "a choice of methods": (
        {"method": ["linear", "ties"], "genes": {"weight": LAYERWISE, "density": DENSITY}},
        [*WEIGHTS[:4], WEIGHTS[5]],
    ),
    "a method for each module": (
        {
            "method": {"choose": ["task_arithmetic", "ties"], "per": "module"},
            "genes": {"weight": LAYERWISE, "density": DENSITY},
        },
        WEIGHTS,
    ),
    "one parent of two": (
        {"method": "task_arithmetic", "genes": {"weight": LAYERWISE}, "parents": {"most": 1}},
        PARENTS,
    ),
    "a total of 1": (
        {"method": "task_arithmetic", "genes": {"weight": {**LAYERWISE, "total": 1}}},
        ["one", "two", "uniform average", "task arithmetic 0.5"],
    ),
}


@pytest.fixture(scope="module")
def build(pico: dict[str, Path]) -> Callable[[dict[str, Any]], Space]:
    base, one, two = (open_model(ModelRef.parse(str(pico[name])), Path()).summary() for name in ("base", "one", "two"))
    return lambda data: build_space(data, "space", base, (one, two))


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], dict[str, torch.Tensor]]:
    """Returns the tensors of a recipe, each of which is merged once."""
    done: dict[str, dict[str, torch.Tensor]] = {}

    def tensors(document: dict[str, Any]) -> dict[str, torch.Tensor]:
        key = str(document)
        if key not in done:
            out = tmp_path_factory.mktemp("merged") / "out"
            done[key] = load_file(merge(document, out) / "model.safetensors")
        return done[key]

    return tensors


@pytest.mark.parametrize("name", CONTAINED)
def test_references_are_points_where_the_space_holds_the_same_merge(
    name: str,
    build: Callable[[dict[str, Any]], Space],
    merged: Callable[[dict[str, Any]], dict[str, torch.Tensor]],
    pico: dict[str, Path],
) -> None:
    data, expected = CONTAINED[name]
    space, base, models = build(data), str(pico["base"]), [str(pico["one"]), str(pico["two"])]
    found = []
    for reference in references(base, models):
        point = reference_point(space, reference, base, models)
        if point is None:
            continue
        found.append(reference.name if reference.kind == "simple" else Path(reference.name).name)
        ours, theirs = merged(space.decode(point)), merged(reference.document)
        for tensor, values in theirs.items():
            torch.testing.assert_close(ours[tensor], values, rtol=0.01, atol=3e-4, msg=f"{reference.name}: {tensor}")
    assert found == expected


def test_a_recipe_that_says_more_is_no_plain_average() -> None:
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in ("one", "two")]
    plain = {"merge_method": "task_arithmetic", "base_model": "base", "models": models}
    space = build_space(
        {"method": "dare_linear", "genes": {"weight": LAYERWISE, "density": DENSITY}}, "space", *_summaries()
    )
    more: list[dict[str, Any]] = [
        {},
        {"evomerge": {"methods": [{"filter": "mlp", "method": "linear"}]}},
        {"evomerge": {"gains": [0.5] * 3}},
        {"tokenizer_source": "union"},
        {"parameters": {"lambda": 0.5}},
    ]
    found = [reference_point(space, Reference("mine", "control", {**plain, **extra}), "base", MODELS) for extra in more]
    assert [point is not None for point in found] == [True, False, False, False, False]
