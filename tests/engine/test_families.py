"""Every family by the same rules: merge, stack, live and on disk, loaded by plain transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from evomerge.api.merge import merge
from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan
from evomerge.recipe import parse_recipe
from evomerge.testing.pico import ENCODERS, FAMILIES, write_pico

TOKENS = torch.arange(3, 35).view(2, 16)
DECODERS = sorted(set(FAMILIES) - ENCODERS)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path, Path]]:
    """family -> base and two fine-tunes, in bf16."""
    root = tmp_path_factory.mktemp("families")
    made = {}
    for family in FAMILIES:
        base = write_pico(root / family / "base", 0, family=family, dtype="bfloat16")
        others = [write_pico(root / family / f"m{i}", i, family=family, near=base, dtype="bfloat16") for i in (1, 2)]
        made[family] = (base, others[0], others[1])
    return made


def load(folder: Path, family: str) -> Any:
    kind = AutoModelForMaskedLM if family in ENCODERS else AutoModelForCausalLM
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(TOKENS).logits


def ties(base: Path, one: Path, two: Path) -> dict[str, Any]:
    return {
        "merge_method": "ties",
        "base_model": str(base),
        "models": [{"model": str(m), "parameters": {"weight": 0.5, "density": 0.5}} for m in (one, two)],
    }


def stack(*ranges: tuple[Path, int, int]) -> dict[str, Any]:
    slices = [{"sources": [{"model": str(m), "layer_range": [start, end]}]} for m, start, end in ranges]
    return {"merge_method": "passthrough", "slices": slices}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merge_loads_and_gives_finite_logits(family: str, zoo: Any, tmp_path: Path) -> None:
    found = logits(load(merge(ties(*zoo[family]), tmp_path / "out"), family))
    assert bool(torch.isfinite(found).all())
    assert not torch.equal(found, logits(load(zoo[family][0], family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_identity_stack_is_the_parent_bit_for_bit(family: str, zoo: Any, tmp_path: Path) -> None:
    parent = zoo[family][1]
    out = merge(stack((parent, 0, 1), (parent, 1, 3)), tmp_path / "out")
    assert torch.equal(logits(load(out, family)), logits(load(parent, family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_deeper_stack_of_two_parents_loads(family: str, zoo: Any, tmp_path: Path) -> None:
    _, one, two = zoo[family]
    model = load(merge(stack((one, 0, 2), (two, 1, 3)), tmp_path / "out"), family)
    assert getattr(model.config, "num_hidden_layers", None) == 4
    assert bool(torch.isfinite(logits(model)).all())


@pytest.mark.parametrize("family", DECODERS)
def test_the_live_model_gives_the_logits_of_the_folder(family: str, zoo: Any, tmp_path: Path) -> None:
    base, one, two = zoo[family]
    document = ties(base, one, two)
    recipes = [parse_recipe(d) for d in (stack((one, 0, 2), (two, 1, 3)), ties(base, two, one), document)]
    parents = Parents([ref for recipe in recipes for ref in recipe.models])
    live = LiveModel(parents)
    for recipe in recipes:
        live.apply(make_plan(recipe, parents))
    out = merge(document, tmp_path / "out")
    assert torch.equal(logits(live.model), logits(load(out, family)))


@pytest.mark.parametrize("family", DECODERS)
def test_a_live_stack_gives_the_logits_of_the_folder(family: str, zoo: Any, tmp_path: Path) -> None:
    _, one, two = zoo[family]
    document = stack((two, 0, 2), (one, 0, 3))
    recipe = parse_recipe(document)
    parents = Parents(recipe.models)
    live = LiveModel(parents)
    live.apply(make_plan(recipe, parents))
    assert torch.equal(logits(live.model), logits(load(merge(document, tmp_path / "out"), family)))
