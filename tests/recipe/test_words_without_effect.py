"""Words that published recipes carry over from one method to another: accepted, never an unknown one."""

import pytest

from evomerge.errors import InvalidFile
from evomerge.methods import built_in_names, get, without_effect
from evomerge.recipe import parse_recipe


def slerp(**parameters: object) -> dict[str, object]:
    models = [{"model": "a"}, {"model": "b"}]
    return {"merge_method": "slerp", "base_model": "a", "models": models, "parameters": {"t": 0.5, **parameters}}


@pytest.mark.parametrize("word", ["int8_mask", "normalize", "weight", "lambda", "density", "int_space"])
def test_a_word_of_another_method_is_accepted(word: str) -> None:
    recipe = parse_recipe(slerp(**{word: True}))
    assert recipe.parameters[word] is True


def test_a_text_that_belongs_elsewhere_is_kept_as_it_was_written() -> None:
    recipe = parse_recipe(slerp(dtype="bfloat16"))
    assert parse_recipe(recipe.document).fingerprint == recipe.fingerprint
    assert "dtype: bfloat16" in recipe.to_yaml()
    assert recipe.dtype is None


@pytest.mark.parametrize(("word", "value"), [("wieght", 1), ("normalise", True), ("weight", "much"), ("t", "bfloat16")])
def test_unknown_words_and_texts_are_still_errors(word: str, value: object) -> None:
    with pytest.raises(InvalidFile, match=word):
        parse_recipe(slerp(**{word: value}))


@pytest.mark.parametrize("name", built_in_names())
def test_every_method_reads_past_mergekits_memory_switch(name: str) -> None:
    assert without_effect(get(name), "int8_mask") == "mergekit's memory switch"


def test_a_methods_own_parameter_has_an_effect() -> None:
    assert without_effect(get("ties"), "density") is None
    assert without_effect(get("linear"), "density") == "a parameter of ties"
    assert without_effect(get("linear"), "denisty") is None
