"""docs/search_file.md is what the schema says: every key has words and an example, and every example is accepted."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from evomerge.evaluation import LM_EVAL_MODEL_OPTIONS
from evomerge.evaluation.prepare import read_options
from evomerge.optimizers import OPTIMIZERS
from evomerge.run import SearchEntry, search_schema
from evomerge.space import space_schema
from scripts.make_reference import LM_EVAL_EXAMPLES, PAGE, page

NEEDED: dict[str, Any] = {"parents": {"models": ["a"]}, "space": "auto", "tasks": [{"task": "b"}]}


def keys() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (mapping, key, its schema) of everything that a search file may hold."""
    search, space = search_schema(), space_schema()
    yield from (("SearchEntry", key, found) for key, found in search["properties"].items())
    mappings = {**search["$defs"], **space["$defs"], **dict(zip("mfh", space["anyOf"][:3], strict=True))}
    for name, schema in mappings.items():
        yield from ((name, key, found) for key, found in schema.get("properties", {}).items() if key != "kind")


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make reference`"


@pytest.mark.parametrize(("owner", "key", "schema"), [pytest.param(*row, id=f"{row[0]}.{row[1]}") for row in keys()])
def test_every_key_has_words_and_an_example(owner: str, key: str, schema: Mapping[str, Any]) -> None:
    assert len(schema["description"]) > 10 and schema["examples"], (owner, key)
    assert f"| `{key}` |" in page()


PLACES = {
    "SearchEntry": lambda key, value: {key: value},
    "ParentsEntry": lambda key, value: {"parents": {"models": ["a"], key: value}},
    "RelativeFloor": lambda key, value: {"tasks": [{"task": "b", "floor": {"parent": "a", key: value}}]},
    "PoolsEntry": lambda key, value: {"pools": {key: value}},
    "SubsetEntry": lambda key, value: {"subset": {key: value}},
    "BudgetEntry": lambda key, value: {"budget": {key: value}},
    "WorkersEntry": lambda key, value: {"workers": {key: value}},
    "ProofEntry": lambda key, value: {"proof": {key: value}},
    "TrackerEntry": lambda key, value: {"trackers": [{"name": "jsonl", key: value}]},
}
SOURCES = ("task", "scorer", "evaluator")


def task_with(key: str, value: Any) -> dict[str, Any]:
    source = {} if key in SOURCES else {"evaluator": "x"} if key == "options" else {"task": "b"}
    return {"tasks": [{**source, key: value}]}


def test_every_example_is_accepted() -> None:
    tried = 0
    for owner, key, schema in keys():
        place = task_with if owner == "TaskEntry" else PLACES.get(owner)
        for example in schema["examples"] if place else ():
            SearchEntry.model_validate({**NEEDED, **place(key, example)})
            tried += 1
    assert tried > 40


def test_lm_evals_settings_are_accepted() -> None:
    options, problems = read_options(LM_EVAL_EXAMPLES)
    assert problems == [] and options.num_fewshot == 5
    assert all(f"`{name}`" in page() for name in (*LM_EVAL_EXAMPLES, *LM_EVAL_MODEL_OPTIONS))


def test_every_optimizer_is_there_with_every_option() -> None:
    for spec in OPTIMIZERS.values():
        section = page().partition(f"### {spec.name}\n")[2].partition("\n### ")[0]
        assert all(f"| `{option.name}` |" in section for option in spec.options), spec.name
