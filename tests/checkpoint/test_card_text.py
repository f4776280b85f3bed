"""The head of a card is what the hub's own reader makes of it."""

from huggingface_hub import ModelCard

from evomerge.checkpoint import CardParent, model_card


def test_the_hub_reads_the_front_matter() -> None:
    parents = [
        CardParent("org/one@main", "mit", "ab" * 32),
        CardParent("org/two+org/lora", "mit", ""),
        CardParent("./here", "mit", ""),
    ]
    data = ModelCard(model_card("my-merge", parents, "merge_method: linear")).data.to_dict()
    assert data == {
        "base_model": ["org/one", "org/two"],
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
