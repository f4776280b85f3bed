"""The head of a card is what the hub's own reader makes of it."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from evomerge.checkpoint import CardParent, CardResult, Parents, card_parents, model_card
from evomerge.recipe import ModelRef


def test_the_hub_reads_the_front_matter() -> None:
    parents = [
        CardParent("org/one@main", "mit", "ab" * 32),
        CardParent("org/two+org/lora", "mit", ""),
        CardParent("./here", "mit", ""),
    ]
    data = ModelCard(model_card("my-merge", parents, "merge_method: linear")).data.to_dict()
    assert data == {
        "base_model": ["org/one", "org/two", "org/lora"],
        "base_model_relation": "merge",
        "library_name": "transformers",
        "license": "mit",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "evomerge"],
    }


def test_what_only_a_person_can_settle() -> None:
    """Licenses that differ, and models that only this machine knows; text that means something in YAML stays text."""
    data = ModelCard(
        model_card("x", [CardParent("./a", "mit", ""), CardParent("./b", "apache-2.0", "")], "")
    ).data.to_dict()
    assert data["license"] == "other"
    assert "base_model" not in data
    assert ModelCard(model_card("x", [CardParent("./a", "no: yes # {", "")], "")).data.license == "no: yes # {"


@pytest.mark.parametrize(("licenses", "expected"), [
    (["apache-2.0", "llama3.1"], "llama3.1"),
    (["mit", "cc-by-nc-4.0", "gemma"], "cc-by-nc-4.0"),
    (["llama3", "gemma"], "other"),
    (["mit", None], None),
    ([None, None], None),
])  # fmt: skip
def test_the_license_is_the_most_restrictive_one_or_not_guessed(
    licenses: list[str | None], expected: str | None
) -> None:
    parents = [CardParent(f"./{index}", license, "") for index, license in enumerate(licenses)]
    assert ModelCard(model_card("x", parents, "")).data.license == expected


def test_held_out_scores_are_what_the_hub_lists() -> None:
    results = [CardResult("gsm8k", "exact_match", 0.61234, 512), CardResult("arc", "acc", 0.5, 256)]
    data = ModelCard(model_card("my-merge", [CardParent("./a", "mit", "")], "", results=results)).data
    assert [(r.dataset_type, r.metric_type, r.metric_value) for r in data.eval_results] == [
        ("gsm8k", "exact_match", 0.6123),
        ("arc", "acc", 0.5),
    ]


def test_languages_and_datasets_of_the_parents_cards(pico: dict[str, Path], tmp_path: Path) -> None:
    parents = []
    for name, header in (("one", "license: mit\nlanguage: [en, no]\n"), ("two", "datasets:\n- org/d\nlanguage: en\n")):
        folder = tmp_path / name
        shutil.copytree(pico[name], folder)
        many = "".join(f"- value: {number}\n" for number in range(1000))
        (folder / "README.md").write_text(f"---\n{header}model-index:\n{many}---\nlicense: not this\n")
        parents.append(ModelRef.parse(str(folder)))
    opened = Parents(parents)
    described = card_parents([opened[ref] for ref in opened], digests=False)
    data = ModelCard(model_card("x", described, "")).data
    assert (data.language, data.datasets, data.license) == (["en", "no"], ["org/d"], None)


@pytest.mark.parametrize("header", ["license: [", "license: {a: 1}", "- a", "license:", "\x00: &a *a"])
def test_a_broken_header_states_nothing(header: str, pico: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(pico["one"], tmp_path / "one")
    (tmp_path / "one" / "README.md").write_text(f"---\n{header}\n---\n")
    opened = Parents([ModelRef.parse(str(tmp_path / "one"))])
    (described,) = card_parents([opened[ref] for ref in opened], digests=False)
    assert (described.license, described.languages) == (None, ())
