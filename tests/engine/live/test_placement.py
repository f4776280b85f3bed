"""A model over several devices: blocks by bytes, and activations that follow the weights."""

from pathlib import Path

import pytest
import torch

from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan
from evomerge.engine.live import spread
from evomerge.recipe import parse_recipe
from evomerge.testing.pico import write_pico

GPUS = [torch.device("cuda", number) for number in range(4)]


def sizes(blocks: list[int], embedding: int = 10) -> dict[str, int]:
    found = {"model.embed_tokens.weight": embedding}
    for number, size in enumerate(blocks):
        found |= {f"model.layers.{number}.a.weight": size // 2, f"model.layers.{number}.b.weight": size - size // 2}
    return {**found, "model.norm.weight": 1, "lm_head.weight": embedding}


def numbers(found: dict[str, torch.device]) -> list[int]:
    return [found[name].index for name in found if name.endswith("a.weight")]


@pytest.mark.parametrize(
    ("blocks", "count", "expected"),
    [
        ([10] * 8, 2, [0, 0, 0, 0, 1, 1, 1, 1]),
        ([10] * 6, 4, [0, 1, 1, 2, 2, 3]),  # embedding and head weigh as much as a block each
        ([40, 10, 10, 10, 10], 2, [0, 1, 1, 1, 1]),
        ([10] * 3, 1, [0, 0, 0]),
    ],
)
def test_blocks_are_spread_by_bytes(blocks: list[int], count: int, expected: list[int]) -> None:
    found = spread(sizes(blocks), {}, GPUS[:count])
    assert numbers(found) == expected
    assert found["model.embed_tokens.weight"] == GPUS[0]
    assert found["model.norm.weight"] == found["lm_head.weight"] == GPUS[count - 1]
    for number in range(len(blocks)):
        assert found[f"model.layers.{number}.a.weight"] == found[f"model.layers.{number}.b.weight"]


def test_a_tied_head_stays_with_the_embedding() -> None:
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    found = spread(sizes([10] * 4), tied, GPUS[:2])
    assert found["lm_head.weight"] == GPUS[0] and found["model.norm.weight"] == GPUS[1]
    assert numbers(found) == [0, 0, 1, 1]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "opt"])
def test_hooks_change_no_output(family: str, tmp_path: Path) -> None:
    """Two devices that happen to be one: the blocks' hooks run, and the model computes what it did."""
    one = write_pico(tmp_path / "one", 0, family=family)
    two = write_pico(tmp_path / "two", 1, family=family, near=one)
    document = {
        "merge_method": "linear",
        "models": [{"model": str(m), "parameters": {"weight": 1}} for m in (one, two)],
    }
    recipe = parse_recipe(document)
    parents = Parents(recipe.models)
    plain, spreaded = LiveModel(parents), LiveModel(parents, devices=["cpu", "cpu"])
    ids = torch.arange(3, 35).view(2, 16)
    outputs = []
    for live in (plain, spreaded):
        live.apply(make_plan(recipe, parents))
        with torch.inference_mode():
            outputs.append(live.model(ids).logits)
    assert torch.equal(*outputs)
    hooked = [name for name, module in spreaded.model.named_modules() if hasattr(module, "_hf_hook")]
    blocks = [name for name in hooked if name.rpartition(".")[2].isdigit()]
    assert "" in hooked and len(blocks) == plain.model.config.num_hidden_layers
    assert not any(hasattr(module, "_hf_hook") for module in plain.model.modules())
    shared = spreaded.model.get_input_embeddings().weight is spreaded.model.get_output_embeddings().weight
    assert shared == (plain.model.get_input_embeddings().weight is plain.model.get_output_embeddings().weight)
