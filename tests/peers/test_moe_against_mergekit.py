"""Mixtures of experts against mergekit-moe 0.1.5: the same file gives the same experts, gates and config.

mergekit runs the base in bf16 for gate_mode hidden, whatever the weights' dtype, so those gates agree to bf16's
resolution; evomerge runs it in the weights' own dtype.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("mergekit", reason="mergekit is not installed; `make peers` builds an environment that has it")

import evomerge
from evomerge.testing.pico import write_pico

PROMPTS = (
    {"positive_prompts": ["1+2=3", "30*4"], "negative_prompts": ["what is it"]},
    {"positive_prompts": ["hello you", "tell me a story"]},
    {"positive_prompts": ["a,b;c"], "negative_prompts": ["1+2", "no"]},
)
# (parents, experts, with a shared expert) -> the family that both write
CASES = {"llama": False, "mistral": False, "qwen2": True, "qwen3": False, "llama with shared": True}


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """family -> a base and three fine-tunes, float32."""
    root, made = tmp_path_factory.mktemp("moe"), {}
    for family in ("llama", "mistral", "qwen2", "qwen3"):
        base = write_pico(root / family / "base", 0, family=family)
        made[family] = [base, *(write_pico(root / family / f"t{i}", i, family=family, near=base) for i in (1, 2, 3))]
    return made


def document(models: list[Path], mode: str, shared: bool, **more: Any) -> dict[str, Any]:
    experts: list[dict[str, Any]] = [
        {"source_model": str(model), **prompts} for model, prompts in zip(models[1:], PROMPTS, strict=True)
    ]
    experts[1]["residual_scale"] = 0.5
    found = {"base_model": str(models[0]), "gate_mode": mode, "experts": experts, "experts_per_token": 2, **more}
    if shared:
        found["shared_experts"] = [{"source_model": str(models[0]), "positive_prompts": ["all of it"]}]
    return found


def theirs(file: Path, out: Path) -> None:
    """Run mergekit-moe on a file."""
    from mergekit.moe.config import MoEMergeConfig
    from mergekit.options import MergeOptions
    from mergekit.scripts.moe import build

    torch.manual_seed(0)
    options = MergeOptions(quiet=True)
    build(MoEMergeConfig.model_validate(yaml.safe_load(file.read_text())), str(out), options, device="cpu")


def state(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors under the names that transformers gives them, whatever layout the file has."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    found: dict[str, torch.Tensor] = model.state_dict()
    return found


def both(case: str, mode: str, parents: dict[str, list[Path]], root: Path, **more: Any) -> tuple[Path, Path]:
    file = root / "moe.yaml"
    file.write_text(yaml.safe_dump(document(parents[case.split()[0]], mode, CASES[case], **more)))
    evomerge.moe(file, root / "ours")
    theirs(file, root / "theirs")
    return root / "ours", root / "theirs"


def is_gate(name: str) -> bool:
    return name.endswith(("mlp.gate.weight", "shared_expert_gate.weight"))


@pytest.mark.parametrize("mode", ["hidden", "cheap_embed", "random", "uniform_random"])
@pytest.mark.parametrize("case", CASES)
def test_experts_are_equal_and_gates_agree(case: str, mode: str, parents: Any, tmp_path: Path) -> None:
    more = {"architecture": "qwen"} if case == "llama with shared" else {}  # mergekit may take a DeepSeek otherwise
    ours, reference = (state(folder) for folder in both(case, mode, parents, tmp_path, **more))
    assert set(ours) == set(reference)
    gates = [name for name in ours if is_gate(name)]
    assert len(gates) == 3 * (2 if CASES[case] else 1)
    for name, tensor in ours.items():
        if not is_gate(name):
            assert torch.equal(tensor, reference[name]), name
        elif mode == "cheap_embed":
            torch.testing.assert_close(tensor, reference[name], atol=1e-6, rtol=1e-5)
        elif mode == "hidden":
            cosine = torch.nn.functional.cosine_similarity(tensor, reference[name])
            assert float(cosine.min()) > 0.998, name
            torch.testing.assert_close(tensor.norm(dim=-1), torch.ones(len(tensor)))
    if mode.endswith("random"):
        drawn, expected = (torch.cat([each[name].flatten() for name in gates]) for each in (ours, reference))
        width = 32**-0.5
        if mode == "random":
            assert abs(float(drawn.mean() - expected.mean())) < 4 * (2 / drawn.numel()) ** 0.5
            assert float(drawn.std() / expected.std()) == pytest.approx(1, abs=0.25)
        else:
            assert 0.9 * width < float(drawn.abs().max()) <= width
            assert 0.9 * width < float(expected.abs().max()) <= width


# mergekit drops the base's attention window; here the mixture keeps it, as it must to equal the dense model. The others
# are the dense family's own and mean nothing to a mixture.
DIFFER = {"sliding_window", "attention_bias", "mlp_bias", "pretraining_tp", "layer_types", "_name_or_path"}


@pytest.mark.parametrize("case", ["llama", "mistral", "qwen2", "qwen3"])
def test_configs_agree(case: str, parents: Any, tmp_path: Path) -> None:
    from transformers import AutoConfig

    folders = both(case, "cheap_embed", parents, tmp_path, dtype="bfloat16")
    ours, reference = (AutoConfig.from_pretrained(folder).to_dict() for folder in folders)
    different = {key for key in set(ours) | set(reference) if ours.get(key) != reference.get(key)}
    assert different <= DIFFER
    assert json.loads((folders[0] / "config.json").read_text())["architectures"] == reference["architectures"]
    for name, tensor in state(folders[0]).items():
        assert tensor.dtype == torch.bfloat16, name
