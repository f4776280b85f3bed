"""A worker compares the answers of its first merge with those of its export, and finds what makes them differ."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, Plan, make_plan
from evomerge.errors import SelfCheckFailed
from evomerge.recipe import parse_recipe
from evomerge.run import Run
from evomerge.run.workers import answer_check
from evomerge.testing.pico import write_pico

PROMPTS = ("what is 3+4?", "abc")
SETTINGS = {"eos_token_id": [2, 17], "repetition_penalty": 1.2, "do_sample": True, "top_k": 3, "num_beams": 2}


def merged(*models: Path, **more: Any) -> dict[str, Any]:
    named = [{"model": str(model), "parameters": {"weight": 1}} for model in models]
    return {"merge_method": "linear", "models": named, **more}


def stacked(one: Path, two: Path) -> dict[str, Any]:
    ranges = [(one, [0, 2]), (two, [0, 3]), (one, [1, 3])]
    slices = [{"sources": [{"model": str(model), "layer_range": part}]} for model, part in ranges]
    return {"merge_method": "passthrough", "slices": slices}


def applied(document: dict[str, Any]) -> tuple[LiveModel, Plan]:
    recipe = parse_recipe(document)
    live = LiveModel(Parents(recipe.models))
    plan = make_plan(recipe, live.parents)
    live.apply(plan)
    return live, plan


@pytest.fixture
def chat(tmp_path: Path) -> tuple[Path, Path]:
    """Two models with settings and a template of their own, of two dtypes, with norms in float32."""
    one = write_pico(tmp_path / "one", 0, dtype="bfloat16")
    two = write_pico(tmp_path / "two", 1, near=one, dtype="float16")
    for folder in (one, two):
        (folder / "generation_config.json").write_text(json.dumps(SETTINGS))
        (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        tensors = load_file(folder / "model.safetensors")
        stored = {name: tensor.float() if "norm" in name else tensor for name, tensor in tensors.items()}
        save_file(stored, folder / "model.safetensors", {"format": "pt"})
    return one, two


@pytest.mark.parametrize("make", [merged, stacked])
def test_a_sound_model_passes(make: Callable[..., dict[str, Any]], chat: tuple[Path, Path]) -> None:
    assert answer_check(*applied(make(*chat)), PROMPTS)


def test_nothing_is_left_on_the_disk(chat: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    answer_check(*applied(merged(*chat)), PROMPTS)
    assert list((tmp_path / "scratch").iterdir()) == []


def other_weight(live: LiveModel) -> None:
    live.tensor("model.layers.1.mlp.down_proj.weight")[:4] += 1


def other_penalty(live: LiveModel) -> None:
    live.model.generation_config.repetition_penalty = 1.0


def other_ends(live: LiveModel) -> None:
    live.model.generation_config.eos_token_id = 2


def other_rope(live: LiveModel) -> None:
    live.model.config.rope_parameters["rope_theta"] = 10.0


def other_dtype(live: LiveModel) -> None:
    live.model.model.norm.to(torch.bfloat16)


def other_template(live: LiveModel) -> None:
    live.tokenizer.chat_template = "{{ messages[0].content }}"


def other_tokens(live: LiveModel) -> None:
    live.tokenizer.add_tokens(["what"])


FAULTS = {
    other_weight: "a prompt's log-likelihood is",
    other_penalty: r"repetition_penalty of generation_config\.json is 1\.2, in memory 1\.0",
    other_ends: r"eos_token_id of generation_config\.json is \[2, 17\], in memory 2",
    other_rope: r"rope_parameters of config\.json",
    other_dtype: r"model\.norm\.weight is torch\.float32 after from_pretrained, in memory torch\.bfloat16",
    other_template: "chat_template",
    other_tokens: "makes other tokens of 'what is",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_differs_is_found(fault: Callable[[LiveModel], None], chat: tuple[Path, Path]) -> None:
    live, plan = applied(merged(*chat))
    fault(live)
    with pytest.raises(SelfCheckFailed, match=FAULTS[fault]) as caught:
        answer_check(live, plan, PROMPTS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [other_penalty, other_template, other_rope], ids=lambda fault: fault.__name__)
def test_a_model_too_large_to_load_twice(
    fault: Callable[[LiveModel], None], chat: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needs no weights is compared all the same."""
    monkeypatch.setattr("evomerge.run.workers._answer_check.MAX_RELOADED_BYTES", 1000)
    monkeypatch.setattr("evomerge.run.workers._answer_check.write_folder", None)
    live, plan = applied(merged(*chat))
    assert not answer_check(live, plan, PROMPTS)
    fault(live)
    with pytest.raises(SelfCheckFailed, match=FAULTS[fault]):
        answer_check(live, plan, PROMPTS)


def test_a_worker_checks_its_first_merge_and_stack(
    run_search: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    where = "evomerge.run.workers._candidate_scorer.answer_check"
    monkeypatch.setattr(where, lambda *given: checked.append(given[1]) or answer_check(*given))
    run_search(budget={"candidates": 6})
    assert len(checked) == 1 and any(not tensor.copied for tensor in checked[0].tensors)
    stack = {"method": "passthrough", "genes": {"repeat": {"per": "layer", "range": [0, 2]}}}
    run_search("stack", space=stack, optimizer="random", budget={"candidates": 6})
    assert len(checked) == 2
