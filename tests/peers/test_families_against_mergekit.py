"""One merge of every family against mergekit 0.1.5, with a gradient over the layers and a filter.

The results are compared as transformers loads them: mergekit writes mixtures of experts in another layout.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mergekit", reason="mergekit is not installed; `make peers` builds an environment that has it")

import evomerge
from evomerge.checkpoint import Checkpoint
from evomerge.testing.families import CONFIGS, ENCODER_CONFIGS, ENCODER_DECODER_CONFIGS
from evomerge.testing.pico import FAMILIES, auto_class, write_pico

EVERY: dict[str, dict[str, Any]] = {
    **{family: {} for family in FAMILIES},
    **CONFIGS,
    **ENCODER_CONFIGS,
    **ENCODER_DECODER_CONFIGS,
}
EVERY["t5"] = {
    **ENCODER_DECODER_CONFIGS["t5"],
    "feed_forward_proj": "gated-gelu",
}  # the only kind that mergekit's definition has
# Where mergekit gives no model that loads, the result is held against the formula, written out.
WITHOUT_PEER = {
    "bert": "wants a pooler, which a masked language model has not",
    "deepseek_v2": "leaves out the experts",
    "deepseek_v3": "leaves out the experts",
    "falcon": "wants a stored head, which a tied model has not",
    "gpt_neox": "wants buffers that files of today do not hold",
    "jamba": "leaves out the experts",
}


def theirs(document: dict[str, Any], out: Path) -> Path:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    run_merge(MergeConfiguration.model_validate(document), str(out), options=options)
    return out


def state(folder: Path, family: str) -> dict[str, torch.Tensor]:
    model, info = auto_class(family).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    found: dict[str, torch.Tensor] = model.state_dict()
    return found


def formula(base: Path, ones: list[Path], out: Path, family: str) -> dict[str, torch.Tensor]:
    """Return base + sum of weight * (model - base), with the weights that the recipe below gives each tensor."""
    found, others = state(base, family), [state(folder, family) for folder in ones]
    layout = Checkpoint(out, "out").layout
    result = {}
    for name, tensor in found.items():
        place = layout.site(name)
        t = place.layer / (layout.num_layers - 1) if place.part == "block" else 0.0
        first = 0.3 if "norm" in name else 0.1 + 0.8 * t
        second = 0.8 - 1.2 * t if t <= 0.5 else 0.2 + 0.4 * (t - 0.5)
        result[name] = tensor + first * (others[0][name] - tensor) + second * (others[1][name] - tensor)
    return result


@pytest.mark.parametrize("family", EVERY)
def test_the_same_merge(family: str, tmp_path: Path) -> None:
    base = write_pico(tmp_path / "base", 0, family=family, **EVERY[family])
    ones = [write_pico(tmp_path / f"m{i}", i, family=family, near=base, **EVERY[family]) for i in (1, 2)]
    weights = ([{"filter": "norm", "value": 0.3}, {"value": [0.1, 0.9]}], [0.8, 0.2, 0.4])
    document = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": str(m), "parameters": {"weight": w}} for m, w in zip(ones, weights, strict=True)],
        "dtype": "float32",
    }
    folder = evomerge.merge(document, tmp_path / "ours")
    ours = state(folder, family)
    reference = (
        formula(base, ones, folder, family)
        if family in WITHOUT_PEER
        else state(theirs(document, tmp_path / "theirs"), family)
    )
    assert set(ours) == set(reference)
    for name, tensor in ours.items():
        largest = float(reference[name].abs().max())
        assert float((tensor - reference[name]).abs().max()) <= 1e-6 * largest, name
