"""LoRA parents are what PEFT's merge_and_unload makes of them, tensor by tensor."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.api.merge import merge
from evomerge.checkpoint import Checkpoint, Parents
from evomerge.engine import LiveModel, make_plan
from evomerge.errors import EvomergeError, InvalidInput, RefusedForSafety
from evomerge.recipe import ModelRef, parse_recipe
from evomerge.testing.pico import write_pico

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"], "lora_alpha": 12}),
    "rslora": ("llama", {"target_modules": "all-linear", "use_rslora": True}),
    "patterns": (
        "llama",
        {
            "target_modules": ["q_proj", "up_proj"],
            "rank_pattern": {"layers.1.self_attn.q_proj": 2},
            "alpha_pattern": {"layers.1.self_attn.q_proj": 9, "up_proj": 3},
        },
    ),
    "saved modules": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "o_proj"]}),
    "bias": ("qwen2", {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "renamed head": ("gpt_neox", {"target_modules": ["query_key_value"], "modules_to_save": ["embed_out", "lm_head"]}),
    "no blocks' own prefix": ("opt", {"target_modules": ["fc1", "k_proj"]}),
}


def write_adapter(base: Path, folder: Path, **settings: Any) -> Any:
    """Write an adapter with random factors; return the model that PEFT makes of it."""
    from transformers import AutoModelForCausalLM

    peft = pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, task_type="CAUSAL_LM", **settings))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name or parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    adapted.save_pretrained(folder)
    loaded = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    return loaded.merge_and_unload().eval()


def as_recipe(base: Path, adapter: Path) -> dict[str, Any]:
    return {"merge_method": "passthrough", "models": [{"model": f"{base}+{adapter}"}]}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_the_result_is_that_of_peft(case: str, dtype: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    family, settings = CASES[case]
    base = write_pico(tmp_path / "base", 0, family=family, dtype=dtype)
    expected = write_adapter(base, tmp_path / "adapter", **settings)
    out = merge(as_recipe(base, tmp_path / "adapter"), tmp_path / "out")
    found = AutoModelForCausalLM.from_pretrained(out).state_dict()
    changed = 0
    for name, tensor in expected.state_dict().items():
        if dtype == "float32":
            torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-7)
        elif "embed" in name and case == "embedding":  # PEFT rounds an embedding's delta before adding it, we after
            torch.testing.assert_close(found[name], tensor, rtol=2**-7, atol=2**-9)
        else:
            assert torch.equal(found[name], tensor), name
        changed += not torch.equal(tensor, load_file(base / "model.safetensors").get(name, tensor))
    assert changed


def test_live_and_merged_with_others(tmp_path: Path) -> None:
    base = write_pico(tmp_path / "base", 0, dtype="bfloat16")
    other = write_pico(tmp_path / "other", 1, near=base, dtype="bfloat16")
    write_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    document = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [
            {"model": {"model": str(base), "lora": str(tmp_path / "adapter")}, "parameters": {"weight": 0.5}},
            {"model": str(other), "parameters": {"weight": 0.5}},
        ],
    }
    recipe = parse_recipe(document)
    parents = Parents(recipe.models)
    live = LiveModel(parents)
    live.apply(make_plan(parse_recipe(as_recipe(base, tmp_path / "adapter")), parents))
    live.apply(make_plan(recipe, parents))
    written = load_file(merge(document, tmp_path / "out") / "model.safetensors")
    state = live.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in written.items())


def test_only_the_tensor_that_is_read_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_pico(tmp_path / "base", 0)
    write_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    model = Parents([ModelRef.parse(f"{base}+{tmp_path / 'adapter'}")])[
        ModelRef.parse(f"{base}+{tmp_path / 'adapter'}")
    ]
    read: list[str] = []
    original = Checkpoint.stored
    monkeypatch.setattr(Checkpoint, "stored", lambda self, name: read.append(name) or original(self, name))
    model.tensor("model.layers.1.self_attn.q_proj.weight")
    assert read == ["model.layers.1.self_attn.q_proj.weight"]
    assert model.digest != Checkpoint(base, "base").digest


@pytest.fixture
def adapter(tmp_path: Path) -> tuple[Path, Path]:
    base = write_pico(tmp_path / "base", 0)
    write_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    return base, tmp_path / "adapter"


def refusal(base: Path, adapter: Path, kind: type[EvomergeError] = InvalidInput) -> str:
    with pytest.raises(kind) as caught:
        merge(as_recipe(base, adapter), base.parent / "out")
    assert not (base.parent / "out").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, "uses DoRA"),
        ({"peft_type": "IA3"}, "is a IA3 adapter, expected LORA"),
        ({"init_lora_weights": "pissa"}, "changes the base as well"),
        ({"layer_replication": [[0, 2]]}, "uses layer replication"),
    ],
)
def test_other_kinds_of_adapters_are_refused(settings: Any, words: str, adapter: tuple[Path, Path]) -> None:
    change(adapter[1], **settings)
    assert words in refusal(*adapter)


def test_a_real_dora_adapter_is_refused(tmp_path: Path) -> None:
    base = write_pico(tmp_path / "base", 0)
    write_adapter(base, tmp_path / "adapter", target_modules=["q_proj"], use_dora=True)
    change(tmp_path / "adapter", use_dora=False)  # its weights say so too
    assert "DoRA" in refusal(base, tmp_path / "adapter")


def test_an_adapter_of_another_model_is_refused(adapter: tuple[Path, Path], tmp_path: Path) -> None:
    wider = write_pico(tmp_path / "wider", 0, hidden_size=64)
    assert "belongs to another model" in refusal(wider, adapter[1])
    other = write_pico(tmp_path / "gpt2", 0, family="gpt2")
    assert "does not have" in refusal(other, adapter[1])


def test_half_a_pair_a_pickle_and_no_adapter(adapter: tuple[Path, Path], tmp_path: Path) -> None:
    base, folder = adapter
    half = Path(shutil.copytree(folder, tmp_path / "half"))
    tensors = load_file(half / "adapter_model.safetensors")
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, half / "adapter_model.safetensors")
    assert "only one of its two" in refusal(base, half)
    (half / "adapter_model.safetensors").rename(half / "adapter_model.bin")
    assert "pickle" in refusal(base, half, RefusedForSafety)
    assert "no adapter_config.json" in refusal(base, base)
    assert "no such folder" in refusal(base, tmp_path / "nowhere")
