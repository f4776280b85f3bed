"""LoRA extraction: exact where the rank suffices, honest where it does not, and read by plain PEFT."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge import extract_lora
from evomerge.checkpoint import open_model
from evomerge.derived.lora import factorize
from evomerge.errors import DegenerateModel, InvalidInput
from evomerge.recipe import ModelRef
from evomerge.testing.pico import write_pico

WEIGHTS = "model.safetensors"
TOKENS = torch.arange(3, 35).view(2, 16)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico(tmp_path_factory.mktemp("lora") / "base", 0)


def edited(base: Path, out: Path, edit: Any) -> Path:
    """Copy a model, with its tensors changed by `edit(name, tensor) -> tensor`."""
    out.mkdir()
    for file in base.iterdir():
        if file.name != WEIGHTS:
            (out / file.name).write_bytes(file.read_bytes())
    tensors = {name: edit(name, tensor).contiguous() for name, tensor in load_file(base / WEIGHTS).items()}
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    return out


def low_rank(rank: int, seed: int = 5) -> Any:
    generator = torch.Generator().manual_seed(seed)

    def edit(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if "_proj" not in name:
            return tensor
        rows, columns = tensor.shape
        b, a = torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator)
        return tensor + 0.05 * b @ a

    return edit


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(TOKENS).logits
    return result


def adapted(base: Path, adapter: Path) -> Any:
    from transformers import AutoModelForCausalLM

    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)


def test_a_low_rank_change_is_recovered(base: Path, tmp_path: Path) -> None:
    tuned = edited(base, tmp_path / "tuned", low_rank(4))
    report = extract_lora(tuned, base, tmp_path / "out", rank=4)
    assert len(report.modules) == 3 * 7
    assert report.error < 1e-5
    assert not report.left_out
    before, after = load_file(base / WEIGHTS), load_file(tuned / WEIGHTS)
    factors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    for module in report.modules:
        assert module.rank == 4
        assert module.error < 1e-5
        b, a = (factors[f"base_model.model.{module.name}.lora_{which}.weight"] for which in "BA")
        delta = after[f"{module.name}.weight"] - before[f"{module.name}.weight"]
        assert float((b @ a - delta).norm() / delta.norm()) < 1e-5


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "gemma2", "opt"])
def test_peft_turns_the_base_into_the_fine_tune(family: str, tmp_path: Path) -> None:
    """Embeddings tied or not, norms, biases, transposed Conv1D weights: with --save-rest nothing is missing."""
    from transformers import AutoModelForCausalLM

    start = write_pico(tmp_path / "base", 0, family=family)
    tuned = write_pico(tmp_path / "tuned", 1, family=family, near=start)
    report = extract_lora(tuned, start, tmp_path / "out", rank=64, save_rest=True)
    assert report.error < 1e-5
    assert report.saved
    wanted = logits(AutoModelForCausalLM.from_pretrained(tuned))
    model = adapted(start, tmp_path / "out")
    assert float((logits(AutoModelForCausalLM.from_pretrained(start)) - wanted).abs().max()) > 0.1
    torch.testing.assert_close(logits(model), wanted, atol=1e-4, rtol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), wanted, atol=1e-4, rtol=1e-4)


def test_a_lower_rank_loses_what_the_report_says(base: Path, tmp_path: Path) -> None:
    tuned = write_pico(tmp_path / "tuned", 1, near=base)
    report = extract_lora(tuned, base, tmp_path / "out", rank=8, dtype="bfloat16")
    merged = adapted(base, tmp_path / "out").merge_and_unload().state_dict()
    before, after = load_file(base / WEIGHTS), load_file(tuned / WEIGHTS)
    lost = sum(float((merged[name] - tensor).square().sum()) for name, tensor in after.items())
    total = sum(float((before[name] - tensor).square().sum()) for name, tensor in after.items())
    assert report.error == pytest.approx((lost / total) ** 0.5, rel=1e-3)
    assert 0.3 < report.error < 0.9
    assert "model.embed_tokens.weight" in report.left_out
    factors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in factors.values()} == {torch.bfloat16}
    assert report.size_bytes == sum(tensor.nbytes for tensor in factors.values())


def test_energy_keeps_the_smallest_rank_that_holds_it() -> None:
    u = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0))).Q
    v = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1))).Q
    s = torch.tensor([8.0, 4.0, 2.0, 1.0])  # squares 64, 16, 4, 1 of 85
    delta = u[:, :4] * s @ v[:, :4].T
    ranks = {energy: factorize(delta, 12, energy).rank for energy in (0.7, 0.76, 0.94, 0.95, 0.99, 1.0)}
    assert ranks == {0.7: 1, 0.76: 2, 0.94: 2, 0.95: 3, 0.99: 4, 1.0: 4}
    assert factorize(delta, 2, 0.99).rank == 2


def test_big_matrices_are_decomposed_at_random_but_the_same_each_time() -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(1100, 8, generator=generator) @ torch.randn(8, 1300, generator=generator)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    found = factorize(exact, 8)
    assert not found.exact
    assert float((found.b @ found.a - exact).norm() / exact.norm()) < 1e-5
    noisy = exact + 0.1 * torch.randn(exact.shape, generator=generator)
    first, second = factorize(noisy, 16), factorize(noisy, 16)
    assert torch.equal(first.a, second.a)
    assert torch.equal(state, torch.get_rng_state())
    u, s, vh = torch.linalg.svd(noisy, full_matrices=False)
    best = float((noisy - u[:, :16] * s[:16] @ vh[:16]).norm())
    assert float((noisy - first.b @ first.a).norm()) < 1.001 * best


def test_patterns_choose_the_modules(base: Path, tmp_path: Path) -> None:
    tuned = write_pico(tmp_path / "tuned", 1, near=base)
    report = extract_lora(tuned, base, tmp_path / "a", include=["self_attn"], exclude=["k_proj", r"layers\.1\."])
    assert {module.name.rpartition(".")[2] for module in report.modules} == {"q_proj", "v_proj", "o_proj"}
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == sorted(module.name for module in report.modules)
    assert config["r"] == 32
    assert config["rank_pattern"]["model.layers.0.self_attn.v_proj"] == 16  # it has no more
    adapted(base, tmp_path / "a")
    extract_lora(tuned, base, tmp_path / "b", include=["self_attn"])
    config = json.loads((tmp_path / "b" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]


def test_nothing_is_left_behind_by_what_cannot_be(base: Path, tmp_path: Path) -> None:
    def spoilt(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * float("nan") if name.endswith("2.mlp.up_proj.weight") else tensor + 0.01

    broken = edited(base, tmp_path / "broken", spoilt)
    wider = write_pico(tmp_path / "wider", 1, vocab_size=70)
    norms = edited(base, tmp_path / "norms", lambda name, tensor: tensor + 0.1 if "norm" in name else tensor)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("here first")
    cases: list[tuple[Path, dict[str, Any], type[Exception], str]] = [
        (broken, {}, DegenerateModel, "model.layers.2.mlp.up_proj.weight holds NaN"),
        (wider, {}, InvalidInput, "an adapter cannot change a shape"),
        (base, {}, InvalidInput, "have the same weights"),
        (norms, {}, InvalidInput, "nothing to extract"),
        (norms, {"save_rest": True}, InvalidInput, "no LoRA"),
        (norms, {"include": ["("]}, InvalidInput, "no regular expression"),
        (norms, {"energy": 1.5}, InvalidInput, "energy is 1.5"),
        (norms, {"rank": 0}, InvalidInput, "rank is 0"),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for model, options, kind, text in cases:
        with pytest.raises(kind, match=text.replace("(", r"\(")):
            extract_lora(model, base, tmp_path / "out", **options)
    with pytest.raises(InvalidInput, match="exists already"):
        extract_lora(broken, base, tmp_path / "full")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_recipe_can_name_the_adapter(base: Path, tmp_path: Path) -> None:
    """BASE+ADAPTER, as recipes write it, gives back the fine-tune."""
    tuned = write_pico(tmp_path / "tuned", 1, near=base)
    extract_lora(tuned, base, tmp_path / "out", rank=64, save_rest=True)
    model = open_model(ModelRef(str(base), lora=ModelRef(str(tmp_path / "out"))))
    for name, tensor in load_file(tuned / WEIGHTS).items():
        torch.testing.assert_close(model.tensor(name), tensor, atol=1e-5, rtol=1e-5)


def test_the_folder_says_what_it_is(base: Path, tmp_path: Path) -> None:
    tuned = write_pico(tmp_path / "tuned", 1, near=base)
    extract_lora(tuned, base, tmp_path / "out", rank=4)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: peft" in card
    assert "rank 4" in card
    assert (tmp_path / "out" / "tokenizer.json").exists()
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert config["r"] == config["lora_alpha"] == 4


def test_a_fine_tune_with_added_tokens_works_when_these_are_excluded(base: Path, tmp_path: Path) -> None:
    """The adapter is that of the other modules, on the base with its own tokens; what is left out is named."""
    edit = low_rank(2)

    def with_tokens(name: str, tensor: torch.Tensor) -> torch.Tensor:
        grown = "embed_tokens" in name or "lm_head" in name
        return torch.cat([tensor + 0.01, tensor[:2]]) if grown else edit(name, tensor)

    tuned = edited(base, tmp_path / "tuned", with_tokens)
    config = json.loads((tuned / "config.json").read_text())
    (tuned / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] + 2}))
    with pytest.raises(InvalidInput, match=r"leave its rows to the base with --exclude (embed_tokens|lm_head)"):
        extract_lora(tuned, base, tmp_path / "refused", rank=2)
    report = extract_lora(
        tuned, base, tmp_path / "out", rank=2, exclude=["embed_tokens", "lm_head"], save_rest=True, dtype="float32"
    )
    assert all("embed_tokens" in name or "lm_head" in name for name in report.left_out) and report.left_out
    assert report.modules and max(module.error for module in report.modules) < 1e-3
    assert 0 < report.error < 1
    plain = edited(base, tmp_path / "plain", low_rank(2))
    found = open_model(ModelRef.parse(f"{base}+{tmp_path / 'out'}"))
    expected = open_model(ModelRef.parse(str(plain)))
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.allclose(found.tensor(name), expected.tensor(name), atol=1e-5)
