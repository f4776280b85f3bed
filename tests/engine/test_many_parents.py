"""Sixteen parents, dense or low-rank, in both sinks; what they share is read once, and adapters stay small."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.checkpoint import AdaptedModel, Checkpoint, Parents
from evomerge.engine import (
    Builder,
    LiveModel,
    make_plan,
    memory_need,
    write_folder,
)
from evomerge.recipe import ModelRef, parse_recipe
from evomerge.testing.pico import write_pico

COUNT = 16
METHODS = ["linear", "task_arithmetic", "ties", "dare_ties", "model_stock"]


def write_lora(base: Path, folder: Path, seed: int) -> Path:
    """Write a random adapter of rank 2 for the attention and the mlp of every block."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, weight in load_file(base / "model.safetensors").items():
        if "proj" in name:
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(2, weight.shape[1], generator=generator) * 0.1
            tensors[f"{stem}.lora_B.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.1
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    return folder


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """A base, sixteen adapters of it and sixteen fine-tunes of it, as a recipe names them; the base comes first."""
    root = tmp_path_factory.mktemp("crowd")
    base = write_pico(root / "base", 0, dtype="bfloat16")
    loras = [write_lora(base, root / f"lora{seed}", seed) for seed in range(COUNT)]
    dense = [write_pico(root / f"dense{seed}", seed, near=base, dtype="bfloat16") for seed in range(1, COUNT + 1)]
    return {
        "lora": [str(base), *({"model": str(base), "lora": str(lora)} for lora in loras)],
        "dense": [str(base), *map(str, dense)],
    }


def document(models: list[Any], method: str, weight: float) -> dict[str, Any]:
    thinned = {"weight": weight, "density": 0.5} if "ties" in method else {"weight": weight}
    parameters = {} if method == "model_stock" else thinned
    given = models if method == "linear" else models[1:]
    return {
        "merge_method": method,
        "models": [{"model": model, "parameters": parameters} for model in given],
        "dtype": "bfloat16",
        **({} if method == "linear" else {"base_model": models[0]}),
    }


@pytest.mark.parametrize(
    ("kind", "method"), [*(("dense", method) for method in METHODS), ("lora", "linear"), ("lora", "ties")]
)
def test_sixteen_parents_in_both_sinks(kind: str, method: str, crowd: dict[str, list[Any]], tmp_path: Path) -> None:
    recipe = parse_recipe(document(crowd[kind], method, 0.3))
    parents = Parents(recipe.models)
    assert len(list(parents)) == COUNT + 1
    live = LiveModel(parents, cache=tmp_path / "cache")
    live.apply(make_plan(parse_recipe(document(crowd[kind], method, 0.1)), parents))
    live.apply(make_plan(recipe, parents))
    write_folder(make_plan(recipe, parents), parents, tmp_path / "out")
    state = live.model.state_dict()
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert set(written) == set(state)
    for name, tensor in written.items():
        assert torch.equal(tensor, state[name]), name
    base = load_file(Path(crowd["lora"][0]) / "model.safetensors")
    assert not torch.equal(written["model.layers.1.mlp.up_proj.weight"], base["model.layers.1.mlp.up_proj.weight"])


def test_adapters_stay_low_rank_and_share_their_base(crowd: dict[str, list[Any]]) -> None:
    refs = [ModelRef.parse(each) for each in crowd["lora"]]
    parents = Parents(refs)
    adapted = [parents[ref] for ref in refs[1:]]
    assert all(isinstance(model, AdaptedModel) and model.inner is adapted[0].inner for model in adapted)
    base, need = parents[refs[0]], memory_need(parents)
    factors = sum((Path(ref.lora.path) / "adapter_model.safetensors").stat().st_size for ref in refs[1:])
    assert isinstance(base, Checkpoint) and base.size_bytes < need.parents < base.size_bytes + factors
    assert need.live == base.size_bytes


def test_each_stored_tensor_is_fetched_once_for_a_merge(
    crowd: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = parse_recipe(document(crowd["lora"], "ties", 0.3))
    parents = Parents(recipe.models)
    plan = next(t for t in make_plan(recipe, parents).tensors if t.name == "model.layers.1.mlp.up_proj.weight")
    builder, fetched, computed = Builder(parents, keep_statistics=True), Counter[str](), Counter[str]()
    builder.residency.keeps = False  # as on a GPU, to which every tensor has to be copied
    assemble, load = AdaptedModel.assemble, builder.residency._load
    monkeypatch.setattr(
        AdaptedModel, "assemble", lambda self, *rest: computed.update([self.name]) or assemble(self, *rest)
    )
    monkeypatch.setattr(
        builder.residency, "_load", lambda stored: fetched.update([f"{stored.file} {stored.key}"]) or load(stored)
    )
    out = torch.empty(plan.shape, dtype=plan.dtype)
    builder.build(plan, out)
    assert set(computed.values()) == {1} and len(computed) == COUNT
    assert set(fetched.values()) == {1} and len(fetched) == 1 + 2 * COUNT  # the base's tensor and the factors
    addresses = [memory.data_ptr() for memory in builder._memory]
    builder.build(plan, out)
    assert [memory.data_ptr() for memory in builder._memory] == addresses  # memory is used again
    assert len(addresses) == COUNT


def test_a_computed_tensor_that_is_taken_as_it_is_is_no_shared_memory(crowd: dict[str, list[Any]]) -> None:
    """A live model of one adapter keeps its weights when another is applied to a second live model of the builder."""
    refs = [ModelRef.parse(each) for each in crowd["lora"]]
    parents = Parents(refs)
    live = LiveModel(parents)
    states = []
    for number in (1, 2, 1):
        recipe = parse_recipe({"merge_method": "passthrough", "models": [{"model": crowd["lora"][number]}]})
        live.apply(make_plan(recipe, parents))
        states.append({name: tensor.clone() for name, tensor in live.model.state_dict().items()})
    for number, state in zip((1, 2, 1), states, strict=True):
        assert all(torch.equal(tensor, parents[refs[number]].tensor(name)) for name, tensor in state.items())
