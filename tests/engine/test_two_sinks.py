"""One engine, two sinks: what is scored live is what is exported, bit for bit."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from evomerge.checkpoint import Parents
from evomerge.engine import (
    Builder,
    LiveModel,
    make_plan,
    write_folder,
)
from evomerge.recipe import parse_recipe, to_mergekit

MERGES = {
    "linear": {"weight": 0.4},
    "task_arithmetic": {"weight": [0.2, 0.9]},
    "slerp": {},
    "ties": {"weight": 0.7, "density": 0.5},
    "dare_ties": {"weight": 0.7, "density": 0.4},
    "dare_linear": {"weight": [{"filter": "mlp", "value": 0.3}, {"value": [0.1, 0.8]}], "density": 0.37},
}


def recipe_for(method: str, pico: dict[str, Path], parameters: dict) -> dict:
    names = ["one"] if method == "slerp" else ["one", "two", "three"]
    return {
        "merge_method": method,
        "base_model": str(pico["base"]),
        "models": [{"model": str(pico[name]), "parameters": parameters} for name in names],
        "parameters": {"t": [0, 0.5, 0.3]} if method == "slerp" else {},
    }


def slices_for(pico: dict[str, Path]) -> dict:
    return {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": str(pico["one"]), "layer_range": [0, 2]}]},
            {"sources": [{"model": str(pico["two"]), "layer_range": [1, 3]}]},
        ],
        "evomerge": {"gains": [1, 0.5, 1.25, 1]},
    }


def methods_for(pico: dict[str, Path]) -> dict:
    rules = [{"filter": "layers.0.", "method": "dare_ties"}, {"filter": "mlp.", "method": "linear"}]
    document = recipe_for("ties", pico, {"weight": 0.4, "density": 0.5})
    return {**document, "evomerge": {"methods": rules, "seed": 3}}


def assert_same(live: LiveModel, folder: Path) -> None:
    written = load_file(folder / "model.safetensors")
    state = live.model.state_dict()
    assert set(written) == set(state)
    for name, tensor in written.items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("method", [*MERGES, "stack", "several"])
def test_live_tensors_equal_the_exported_file(method: str, pico: dict[str, Path], tmp_path: Path) -> None:
    special = {"stack": slices_for, "several": methods_for}
    document = special[method](pico) if method in special else recipe_for(method, pico, MERGES[method])
    recipe = parse_recipe(document)
    earlier = parse_recipe(recipe_for("linear", pico, {"weight": 1.0}))
    parents = Parents([*recipe.models, *earlier.models])
    plan = make_plan(recipe, parents)
    live = LiveModel(parents)
    live.apply(make_plan(earlier, parents))
    live.apply(plan)
    write_folder(plan, parents, tmp_path / "out")
    assert_same(live, tmp_path / "out")


def test_plain_transformers_loads_the_export_and_agrees(pico: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    recipe = parse_recipe(slices_for(pico))
    parents = Parents(recipe.models)
    live = LiveModel(parents)
    live.apply(make_plan(recipe, parents))
    write_folder(make_plan(recipe, parents), parents, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokens = torch.arange(3, 35).view(2, 16)
    assert loaded.config.num_hidden_layers == 4
    with torch.inference_mode():
        torch.testing.assert_close(live.model(tokens).logits, loaded(tokens).logits)
        kept = live.model.generate(tokens, max_new_tokens=5, do_sample=False)
        assert torch.equal(kept, loaded.generate(tokens, max_new_tokens=5, do_sample=False))


def test_repeated_blocks_copy_nothing_and_keep_a_cache_each(pico: dict[str, Path], tmp_path: Path) -> None:
    """A block that occurs three times is one memory; what it attends to is its own at each depth."""
    from transformers import AutoModelForCausalLM

    one = {"model": str(pico["one"]), "layer_range": [0, 1]}
    slices = [{"sources": [dict(one)]} for _ in range(3)]
    slices += [{"sources": [{"model": str(pico["two"]), "layer_range": [1, 3]}]}]
    recipe = parse_recipe({"merge_method": "passthrough", "slices": slices, "evomerge": {"gains": [1, 0.5, 1, 1, 0.8]}})
    parents = Parents(recipe.models)
    live = LiveModel(parents)
    live.apply(make_plan(recipe, parents))
    blocks = live.model.model.layers
    assert [block.self_attn.layer_idx for block in blocks] == list(range(5))
    assert blocks[0].mlp.up_proj.weight.data_ptr() == blocks[2].mlp.up_proj.weight.data_ptr()
    assert blocks[1].mlp.up_proj.weight.data_ptr() == blocks[0].mlp.up_proj.weight.data_ptr()  # its gain is elsewhere
    assert blocks[1].mlp.down_proj.weight.data_ptr() != blocks[0].mlp.down_proj.weight.data_ptr()
    write_folder(make_plan(recipe, parents), parents, tmp_path / "out")
    assert_same(live, tmp_path / "out")
    tokens = torch.arange(3, 19).view(2, 8)
    with torch.inference_mode():
        cached = live.model.generate(tokens, max_new_tokens=8, do_sample=False, use_cache=True)
        assert torch.equal(cached, live.model.generate(tokens, max_new_tokens=8, do_sample=False, use_cache=False))
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        assert torch.equal(cached, loaded.generate(tokens, max_new_tokens=8, do_sample=False))


def test_in_mergekits_words_a_stack_with_gains_is_the_same_bytes(pico: dict[str, Path], tmp_path: Path) -> None:
    recipe = parse_recipe(slices_for(pico))
    outputs = ["mlp.down_proj.weight", "self_attn.o_proj.weight"]
    scaled = parse_recipe(yaml.safe_load(to_mergekit(recipe, outputs).text))
    assert scaled.gains is None
    parents = Parents(recipe.models)
    for name, meant in (("gains", recipe), ("scales", scaled)):
        write_folder(make_plan(meant, parents), parents, tmp_path / name)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("gains", "scales"))
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_gain_scales_the_contribution_of_its_block(pico: dict[str, Path]) -> None:
    """x + g f(x): with all gains tiny the residual stream stays at the embeddings."""
    document = slices_for(pico)
    outputs = {}
    for gain in (1e-6, 1.0):
        document["evomerge"] = {"gains": [gain] * 4}
        recipe = parse_recipe(document)
        parents = Parents(recipe.models)
        live = LiveModel(parents)
        live.apply(make_plan(recipe, parents))
        with torch.inference_mode():
            states = live.model(torch.tensor([[5, 6, 7]]), output_hidden_states=True).hidden_states
        outputs[gain] = float((states[3].float() - states[0].float()).abs().max())
    assert outputs[1e-6] < 1e-2 < outputs[1.0]


def test_unchanged_tensors_are_not_rebuilt(pico: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_recipe(recipe_for("task_arithmetic", pico, {"weight": [0.1, 0.5, 0.9]}))
    parents = Parents(recipe.models)
    live = LiveModel(parents)
    live.apply(make_plan(recipe, parents))
    built = []
    monkeypatch.setattr(Builder, "build", lambda self, plan, out: built.append(plan.name))
    other = parse_recipe(recipe_for("task_arithmetic", pico, {"weight": [0.1, 0.5, 0.8]}))
    live.apply(make_plan(other, parents))
    assert built
    assert all(name.startswith("model.layers.2.") for name in built)


def test_model_objects_of_few_configs_are_kept(
    pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search over stacks makes a model object for each depth; it must not keep those of a whole run."""
    monkeypatch.setattr("evomerge.engine.live._model.MAX_KEPT", 2)
    one = str(pico["one"])

    def stack(depth: int) -> dict:
        first = [{"sources": [{"model": one, "layer_range": [0, 1]}]}] * (depth - 1)
        last = {"sources": [{"model": str(pico["two"]), "layer_range": [2, 3]}]}
        return {"merge_method": "passthrough", "slices": [*first, last]}

    recipes = {depth: parse_recipe(stack(depth)) for depth in (2, 3, 4)}
    parents = Parents(recipes[2].models)
    live, objects = LiveModel(parents), {}
    for depth in (2, 3, 2, 4, 2, 3):
        live.apply(make_plan(recipes[depth], parents))
        objects.setdefault(depth, []).append(live.model)
        assert len(live._skeletons) <= 2
    assert len(set(map(id, objects[2]))) == 1, "the last two are kept"
    assert len(set(map(id, objects[3]))) == 2, "it was not among them and is made anew"
    write_folder(make_plan(recipes[3], parents), parents, tmp_path / "out")
    assert_same(live, tmp_path / "out")
