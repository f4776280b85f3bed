"""The recipes that tutorials teach, unchanged but for names and depths, and that their bytes depend on nothing else."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import evomerge
from evomerge.checkpoint import Parents
from evomerge.engine import make_plan, write_folder
from evomerge.recipe import parse_recipe

TUTORIALS = {
    "slerp with a gradient for each filter (the Marcoro14-7B form)": """
slices:
  - sources:
      - {model: ONE, layer_range: [0, 3]}
      - {model: TWO, layer_range: [0, 3]}
merge_method: slerp
base_model: ONE
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5
dtype: bfloat16
""",
    "ties": """
models:
  - model: BASE
  - model: ONE
    parameters: {density: 0.5, weight: 0.5}
  - model: TWO
    parameters: {density: 0.5, weight: 0.3}
merge_method: ties
base_model: BASE
parameters: {normalize: true}
dtype: float16
""",
    "dare_ties": """
models:
  - model: BASE
    # No parameters necessary for base model
  - model: ONE
    parameters: {density: 0.53, weight: 0.4}
  - model: TWO
    parameters: {density: 0.53, weight: 0.3}
  - model: THREE
    parameters: {density: 0.53, weight: 0.3}
merge_method: dare_ties
base_model: BASE
parameters: {int8_mask: true}
dtype: bfloat16
""",
    "passthrough with overlapping ranges (the Goliath form)": """
slices:
  - sources:
      - {model: ONE, layer_range: [0, 2]}
  - sources:
      - {model: TWO, layer_range: [1, 3]}
  - sources:
      - {model: ONE, layer_range: [1, 3]}
merge_method: passthrough
dtype: float16
""",
    "linear": """
models:
  - model: ONE
    parameters: {weight: 1.0}
  - model: TWO
    parameters: {weight: 0.3}
merge_method: linear
dtype: float16
""",
    "task arithmetic": """
models:
  - model: ONE
    parameters: {weight: 0.7}
  - model: TWO
    parameters: {weight: 0.5}
merge_method: task_arithmetic
base_model: BASE
dtype: bfloat16
""",
    "model stock": """
models:
  - model: ONE
  - model: TWO
  - model: THREE
merge_method: model_stock
base_model: BASE
dtype: bfloat16
""",
}


def named(text: str, pico: dict[str, Path]) -> dict[str, Any]:
    """Return a tutorial's recipe with pico models in the place of its own."""
    for word, name in (("BASE", "base"), ("ONE", "one"), ("TWO", "two"), ("THREE", "three")):
        text = text.replace(word, str(pico[name]))
    document: dict[str, Any] = yaml.safe_load(text)
    return document


@pytest.mark.parametrize("name", list(TUTORIALS))
def test_tutorial_recipes_work_as_they_are(name: str, pico: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    document = named(TUTORIALS[name], pico)
    evomerge.merge(document, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert str(model.dtype) == f"torch.{document['dtype']}"
    assert model.config.num_hidden_layers == (6 if document["merge_method"] == "passthrough" else 3)
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")("1+2=", return_tensors="pt")
    with torch.inference_mode():
        assert model(**tokens).logits.isfinite().all()


def test_a_gradient_for_each_filter_is_followed(pico: dict[str, Path], tmp_path: Path) -> None:
    """Attention goes from the first model (t = 0) to the second (t = 1) over depth, mlp the other way."""
    evomerge.merge(named(next(iter(TUTORIALS.values())), pico), tmp_path / "out")
    merged = load_file(tmp_path / "out" / "model.safetensors")
    one, two = (load_file(pico[name] / "model.safetensors") for name in ("one", "two"))
    attention, mlp = "model.layers.{}.self_attn.q_proj.weight", "model.layers.{}.mlp.up_proj.weight"
    assert torch.equal(merged[attention.format(0)], one[attention.format(0)])
    assert torch.equal(merged[attention.format(2)], two[attention.format(2)])
    assert torch.equal(merged[mlp.format(0)], two[mlp.format(0)])
    assert torch.equal(merged[mlp.format(2)], one[mlp.format(2)])


@pytest.mark.parametrize("method", ["dare_ties", "della", "ties", "slerp", "model_stock"])
def test_bytes_depend_on_neither_threads_blocks_nor_shards(method: str, pico: dict[str, Path], tmp_path: Path) -> None:
    models = [str(pico[name]) for name in (("one",) if method == "slerp" else ("one", "two", "three"))]
    given = {} if method in ("slerp", "model_stock") else {"weight": 0.6, "density": 0.55}
    document: dict[str, Any] = {
        "merge_method": method,
        "base_model": str(pico["base"]),
        "models": [{"model": model, **({"parameters": given} if given else {})} for model in models],
        "evomerge": {"seed": 7},
    }
    if method == "slerp":
        document["parameters"] = {"t": 0.3}
    results = []
    before = torch.get_num_threads()
    for number, (threads, block, shard) in enumerate(((1, 1 << 16, 10**9), (2, 100, 10**9), (1, 1 << 12, 20_000))):
        torch.set_num_threads(threads)
        try:
            recipe = parse_recipe(document)
            parents = Parents(recipe.models)
            write_folder(make_plan(recipe, parents), parents, tmp_path / str(number), block=block, shard_bytes=shard)
        finally:
            torch.set_num_threads(before)
        found: dict[str, torch.Tensor] = {}
        for file in (tmp_path / str(number)).glob("*.safetensors"):
            found |= load_file(file)
        results.append(found)
    for other in results[1:]:
        assert set(other) == set(results[0])
        assert all(torch.equal(tensor, other[name]) for name, tensor in results[0].items())
