"""A method from outside is as good as a built-in one in a recipe: its name, its parameters, its variants."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from safetensors.torch import load_file

from evomerge import methods
from evomerge.api.merge import merge
from evomerge.errors import InvalidFile, InvalidInput
from evomerge.methods import Combination, LinearCombination, Parameter, Variant
from evomerge.recipe import parse_recipe, recipe_schema, to_mergekit


class Lean(LinearCombination):
    """The weighted sum of the task vectors, times `lean`."""

    name = "test_lean"
    title = "Lean"
    formula = "base + lean sum(w_i (x_i - base))"
    paper = "none"
    base = "required"
    inputs = (1, 2)
    parameters = (
        Parameter(name="weight", per="parent", low=0, high=1, doc="share of this model"),
        Parameter(name="lean", per="merge", default=1.0, low=0, high=2, doc="factor on all"),
        Parameter(name="steps", per="merge", kind="integer", default=1, low=1, high=9, doc="a number of steps"),
    )
    variants: ClassVar[Any] = (Variant(name="order", options=("plain", "reverse"), doc="either way"),)

    def coefficients(self, inputs: Any, settings: Any, statistics: Any) -> Combination:
        factors = [settings.shared("lean") * weight for weight in settings.each("weight")]
        return Combination(1.0 - sum(factors), tuple(factors))


@pytest.fixture(autouse=True)
def registered() -> None:
    methods.register(Lean)


def recipe(**changes: Any) -> dict[str, Any]:
    models = [{"model": "one", "parameters": {"weight": 0.5}}, {"model": "two", "parameters": {"weight": [0, 1]}}]
    return {"merge_method": "test_lean", "base_model": "base", "models": models, **changes}


def test_a_registered_method_is_valid_in_recipes() -> None:
    document = recipe(parameters={"lean": 0.5, "steps": 3}, evomerge={"variants": {"order": "reverse"}})
    parsed = parse_recipe(document)
    assert parsed.method == "test_lean"
    assert parse_recipe(parsed.document) == parsed
    assert recipe_schema()["properties"]["merge_method"]["type"] == "string", "no list of names that is out of date"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"merge_method": "test_leen"}, 'Did you mean "test_lean"?'),
        ({"parameters": {"leen": 1}}, "parameters.leen: test_lean has no such parameter; it has weight, lean, steps."),
        ({"parameters": {"lean": 3}}, "parameters.lean: found 3, expected a value from 0 to 2"),
        ({"parameters": {"steps": 1.5}}, "parameters.steps: found 1.5, expected a whole number"),
        ({"models": [{"model": "one", "parameters": {"weight": 2}}]}, "weight: found 2, expected a value from 0 to 1"),
        ({"models": [{"model": "one"}]}, "models.0.parameters.weight: is missing; test_lean needs it for one"),
        (
            {"models": [{"model": "one", "parameters": {"weight": 1, "lean": 1}}]},
            "models.0.parameters.lean: lean is one value for the whole merge",
        ),
        (
            {"models": [{"model": name, "parameters": {"weight": 1}} for name in ("one", "two", "three")]},
            "test_lean takes 1 to 2 model(s) besides the base, found 3",
        ),
        ({"base_model": None}, "base_model: is missing; test_lean needs"),
        ({"evomerge": {"variants": {"odrer": "plain"}}}, "test_lean has no such variant; it has order."),
        ({"evomerge": {"variants": {"order": "plane"}}}, 'expected one of plain, reverse. Did you mean "plain"?'),
    ],
)
def test_mistakes_are_the_same_sentences_as_with_built_in_methods(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        parse_recipe(recipe(**changes), where="r.yaml")
    assert sentence in str(caught.value)


def test_it_merges_and_mergekit_is_told_that_it_cannot(pico: dict[str, Path], tmp_path: Path) -> None:
    models = [{"model": str(pico["one"]), "parameters": {"weight": 1}}]
    document = recipe(base_model=str(pico["base"]), models=models, parameters={"lean": 1}, dtype="float32")
    found = load_file(merge(document, tmp_path / "out") / "model.safetensors")
    one = load_file(pico["one"] / "model.safetensors")
    assert all((found[name] - one[name].float()).abs().max() < 1e-5 for name in one)
    with pytest.raises(InvalidInput, match="mergekit has no method test_lean"):
        to_mergekit(parse_recipe(document))
