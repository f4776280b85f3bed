"""Tensors that only some parents have: tied heads, biases, buffers of old versions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.api.merge import merge, plan_merge
from evomerge.errors import InvalidInput
from evomerge.testing.pico import write_pico

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
BIAS = "model.layers.1.self_attn.q_proj.bias"


def edit(folder: Path, drop: tuple[str, ...] = (), add: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    tensors = {k: v for k, v in load_file(folder / "model.safetensors").items() if k not in drop} | (add or {})
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def recipe(method: str, *folders: Path, **parameters: float) -> dict[str, Any]:
    """A merge of folders; the first is the base, listed only for linear."""
    listed = folders if method == "linear" else folders[1:]
    inner = {} if method in ("slerp", "model_stock", "nearswap", "arcee_fusion") else parameters
    return {
        "merge_method": method,
        "base_model": str(folders[0]),
        "models": [{"model": str(f), "parameters": inner} for f in listed],
        "parameters": parameters if method in ("slerp", "nearswap") else {},
    }


@pytest.mark.parametrize("tied_first", [True, False])
def test_a_missing_head_of_a_tied_parent_is_its_embedding(tied_first: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    tied = edit(write_pico(tmp_path / "tied", 0), drop=(HEAD,), tie_word_embeddings=True)
    own = write_pico(tmp_path / "own", 1)
    folders = (tied, own) if tied_first else (own, tied)
    out = merge(recipe("linear", *folders, weight=1.0), tmp_path / "out")
    found = load_file(out / "model.safetensors")
    first, second = (load_file(f / "model.safetensors") for f in (tied, own))
    torch.testing.assert_close(found[HEAD], (first[EMBED] + second[HEAD]) / 2)
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False
    model = AutoModelForCausalLM.from_pretrained(out)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_a_stored_head_of_tied_parents_is_dropped(tmp_path: Path) -> None:
    stored = edit(write_pico(tmp_path / "stored", 0), tie_word_embeddings=True)
    absent = edit(write_pico(tmp_path / "absent", 1), drop=(HEAD,), tie_word_embeddings=True)
    for i, folders in enumerate([(stored, absent), (absent, stored), (stored, stored)]):
        out = merge(recipe("linear", *dict.fromkeys(folders), weight=1.0), tmp_path / f"out{i}")
        assert HEAD not in load_file(out / "model.safetensors")


def test_a_missing_head_of_an_untied_parent_is_an_error(tmp_path: Path) -> None:
    broken = edit(write_pico(tmp_path / "broken", 0), drop=(HEAD,))
    with pytest.raises(InvalidInput, match=r"has no tensor lm_head\.weight"):
        merge(recipe("linear", broken, write_pico(tmp_path / "own", 1), weight=1.0), tmp_path / "out")


def biased(folder: Path, seed: int, value: float | None) -> Path:
    write_pico(folder, seed)
    return folder if value is None else edit(folder, add={BIAS: torch.full((32,), value)})


CASES = [
    # method, has the base it, have the others, parameters, result: a number, None = no tensor, "error"
    ("linear", 1.0, (2.0, None), {"weight": 1.0}, 1.5),
    ("linear", None, (2.0,), {"weight": 3.0}, 2.0),
    ("task_arithmetic", 1.0, (2.0, None), {"weight": 0.5}, 1.5),
    ("task_arithmetic", 1.0, (None, None), {"weight": 0.5}, 1.0),
    ("ties", None, (2.0, None), {"weight": 0.5, "density": 1.0}, "error"),
    ("slerp", 1.0, (None,), {"t": 0.5}, 1.0),
    ("slerp", None, (2.0,), {"t": 0.5}, 2.0),
    ("arcee_fusion", None, (2.0,), {}, 2.0),
    ("nuslerp", None, (2.0, None), {"weight": 0.5}, 2.0),
    ("nearswap", 1.0, (None,), {"t": 0.5}, 1.0),
    ("nearswap", None, (2.0,), {"t": 0.5}, "error"),
    ("model_stock", 1.0, (None, None), {}, 1.0),
    ("model_stock", 1.0, (2.0, None), {}, None),
    ("model_stock", None, (2.0, 3.0), {}, "error"),
]


@pytest.mark.parametrize(("method", "base", "others", "parameters", "result"), CASES)
def test_a_bias_that_some_lack(
    method: str, base: float | None, others: Any, parameters: Any, result: Any, tmp_path: Path
) -> None:
    folders = [biased(tmp_path / "base", 0, base)]
    folders += [biased(tmp_path / f"m{i}", i + 1, value) for i, value in enumerate(others)]
    document = recipe(method, *folders, **parameters)
    if method == "linear" and base is None:
        document["models"] = document["models"][::-1]
    if method == "nuslerp":
        del document["base_model"]
        document["models"] = [{"model": str(f), "parameters": parameters} for f in folders[1:]]
    if result == "error":
        with pytest.raises(InvalidInput, match=r"has no tensor model\.layers\.1\.self_attn\.q_proj\.bias"):
            merge(document, tmp_path / "out")
        return
    found = load_file(merge(document, tmp_path / "out") / "model.safetensors").get(BIAS)
    if result is None:
        assert found is None
        assert any("is left out" in note for note in plan_merge(document)[0].notes)
    else:
        assert found is not None
        torch.testing.assert_close(found, torch.full((32,), float(result)))


def test_buffers_of_old_versions_are_ignored(tmp_path: Path) -> None:
    old = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(3)}
    folders = [edit(write_pico(tmp_path / "old", 0), add=old), write_pico(tmp_path / "new", 1)]
    for i, order in enumerate((folders, folders[::-1])):
        out = merge(recipe("linear", *order, weight=1.0), tmp_path / f"out{i}")
        assert not any("inv_freq" in name for name in load_file(out / "model.safetensors"))


def test_names_with_and_without_the_family_prefix_are_the_same(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    long = write_pico(tmp_path / "long", 0, family="gpt2")
    short = write_pico(tmp_path / "short", 1, family="gpt2")
    tensors = load_file(short / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8) for i in range(3)}
    save_file(bare | masks, short / "model.safetensors", {"format": "pt"})
    for i, order in enumerate(((long, short), (short, long))):
        out = merge(recipe("linear", *order, weight=1.0), tmp_path / f"out{i}")
        model = AutoModelForCausalLM.from_pretrained(out)
        name = "transformer.h.2.attn.c_attn.weight"
        expected = (load_file(long / "model.safetensors")[name] + tensors[name]) / 2
        torch.testing.assert_close(model.state_dict()[name], expected)


def test_whole_models_of_different_depth_are_refused(tmp_path: Path) -> None:
    deep = write_pico(tmp_path / "deep", 0, num_hidden_layers=4)
    with pytest.raises(InvalidInput, match="differ in their number of layers"):
        merge(recipe("task_arithmetic", deep, write_pico(tmp_path / "flat", 1), weight=1.0), tmp_path / "out")
