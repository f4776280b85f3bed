"""LoRA extraction against mergekit-extract-lora 0.1.5: the same products B A, the same weights saved whole."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("mergekit", reason="mergekit is not installed; `make peers` builds an environment that has it")

import evomerge
from evomerge.testing.pico import write_pico

FAMILIES = ("llama", "qwen2", "gemma2", "phi3", "olmo2")
PREFIX = "base_model.model."
TOKENS = torch.arange(3, 35).view(2, 16)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """family -> base and fine-tune."""
    root, made = tmp_path_factory.mktemp("lora"), {}
    for family in FAMILIES:
        base = write_pico(root / family / "base", 0, family=family)
        made[family] = (base, write_pico(root / family / "tuned", 1, family=family, near=base))
    return made


def theirs(base: Path, tuned: Path, out: Path, *options: str) -> Path:
    """Run mergekit-extract-lora."""
    from mergekit.scripts.extract_lora import main

    arguments = ["--model", str(tuned), "--base-model", str(base), "--out-path", str(out), *options, "--quiet"]
    main(arguments, standalone_mode=False)
    return out


def tensors(adapter: Path) -> dict[str, torch.Tensor]:
    found = load_file(adapter / "adapter_model.safetensors")
    return {name.removeprefix(PREFIX): tensor for name, tensor in found.items()}


def products(adapter: Path) -> dict[str, torch.Tensor]:
    """Return module -> B A, in float64."""
    found = tensors(adapter)
    modules = sorted({name.partition(".lora_")[0] for name in found if ".lora_A" in name})
    return {m: found[f"{m}.lora_B.weight"].double() @ found[f"{m}.lora_A.weight"].double() for m in modules}


def deltas(base: Path, tuned: Path) -> dict[str, torch.Tensor]:
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    return {name.removesuffix(".weight"): tensor.double() - before[name].double() for name, tensor in after.items()}


@pytest.mark.parametrize("rank", [4, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_products_agree(family: str, rank: int, pairs: Any, tmp_path: Path) -> None:
    """Within 1e-4 of each delta's norm (two singular values at the cut can be close); exact where the rank suffices."""
    base, tuned = pairs[family]
    evomerge.extract_lora(tuned, base, tmp_path / "ours", rank=rank, exclude=["lm_head"])
    ours = products(tmp_path / "ours")
    reference = products(theirs(base, tuned, tmp_path / "theirs", "--max-rank", str(rank)))
    wanted = deltas(base, tuned)
    assert set(ours) == set(reference)
    for module, product in ours.items():
        size = wanted[module].norm()
        assert float((product - reference[module]).norm() / size) < 1e-4, module
        if rank >= min(product.shape):
            assert float((product - wanted[module]).norm() / size) < 1e-5, module


def test_what_is_saved_whole_is_the_same(pairs: Any, tmp_path: Path) -> None:
    """mergekit always stores embeddings, head and norms; here --save-rest does."""
    base, tuned = pairs["llama"]
    evomerge.extract_lora(tuned, base, tmp_path / "ours", rank=4, save_rest=True, exclude=["lm_head"])
    ours, reference = tensors(tmp_path / "ours"), tensors(theirs(base, tuned, tmp_path / "theirs", "--max-rank", "4"))
    whole = {name for name in reference if ".lora_" not in name}
    assert whole == {name for name in ours if ".lora_" not in name}
    assert {"lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"} <= whole
    for name in whole:
        assert torch.equal(ours[name], reference[name]), name


@pytest.mark.parametrize("rank", [4, 64])
def test_peft_makes_the_same_model_of_both(rank: int, pairs: Any, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base, tuned = pairs["llama"]
    evomerge.extract_lora(tuned, base, tmp_path / "ours", rank=rank, save_rest=True)
    theirs(base, tuned, tmp_path / "theirs", "--max-rank", str(rank))
    logits = []
    for adapter in ("ours", "theirs"):
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / adapter)
            logits.append(model(TOKENS).logits)
    # The head: decomposed here (a linear layer), stored whole by mergekit; equal where the rank suffices.
    if rank == 64:
        torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)
        with torch.inference_mode():
            wanted = AutoModelForCausalLM.from_pretrained(tuned)(TOKENS).logits
        torch.testing.assert_close(logits[0], wanted, atol=1e-4, rtol=1e-4)
    config = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("ours", "theirs")]
    assert config[0]["r"] == config[0]["lora_alpha"]
    assert config[1]["r"] == config[1]["lora_alpha"]


def test_patterns_choose_the_same_modules(pairs: Any, tmp_path: Path) -> None:
    base, tuned = pairs["llama"]
    evomerge.extract_lora(tuned, base, tmp_path / "ours", rank=4, include=["self_attn", "up_proj"], exclude=["k_proj"])
    options = ("--max-rank", "4", "-i", "self_attn", "-i", "up_proj", "-e", "k_proj", "-e", "embed_tokens|lm_head")
    assert set(products(tmp_path / "ours")) == set(products(theirs(base, tuned, tmp_path / "theirs", *options)))
