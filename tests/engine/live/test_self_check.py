"""The self-check finds what is not as on disk, and only that."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan, self_check, write_statistics
from evomerge.engine.live import count_mismatches
from evomerge.errors import EvomergeError, SelfCheckFailed
from evomerge.recipe import parse_recipe
from evomerge.testing.pico import write_pico


def document(pico: dict[str, Path], method: str = "ties") -> dict[str, Any]:
    thinned = {"weight": 0.7, "density": 0.5}
    return {
        "merge_method": method,
        "base_model": str(pico["base"]),
        "models": [{"model": str(pico[name]), "parameters": thinned} for name in ("one", "two", "three")],
    }


def applied(document: dict[str, Any], cache: Path | None = None) -> tuple[LiveModel, Any]:
    recipe = parse_recipe(document)
    live = LiveModel(Parents(recipe.models), cache=cache)
    plan = make_plan(recipe, live.parents)
    live.apply(plan)
    return live, plan


@pytest.mark.parametrize("method", ["ties", "dare_ties", "task_arithmetic"])
def test_a_sound_model_passes(method: str, pico: dict[str, Path], tmp_path: Path) -> None:
    live, plan = applied(document(pico, method), tmp_path)
    assert all(self_check(live, plan, f"worker {number}") for number in range(5))


def test_nothing_merged_is_nothing_checked(pico: dict[str, Path]) -> None:
    live, plan = applied({"merge_method": "passthrough", "models": [{"model": str(pico["one"])}]})
    assert not self_check(live, plan, "worker")


def test_one_wrong_bit_is_found(pico: dict[str, Path]) -> None:
    live, plan = applied(document(pico))
    for tensor in plan.tensors:
        live.tensor(tensor.name).view(-1).view(torch.int16)[5] ^= 1
    with pytest.raises(SelfCheckFailed, match=r"^self-check: 1 of \d+ elements of model\.\S+ in memory on cpu"):
        self_check(live, plan, "worker")
    assert issubclass(SelfCheckFailed, EvomergeError)


def test_wrong_statistics_are_found(pico: dict[str, Path], tmp_path: Path) -> None:
    """A file whose checksum is right and whose numbers are not, as an error in an earlier version could leave."""
    live, plan = applied(document(pico), tmp_path)
    paths = list(tmp_path.glob("??/*.safetensors"))
    for path in paths:
        known = load_file(path)
        for name in known:
            known[name][0] *= 1.5  # thresholds
        write_statistics(path, known)
    assert paths and self_check(live, plan, "worker")  # what was made before is sound
    live, plan = applied(document(pico), tmp_path)
    with pytest.raises(SelfCheckFailed, match=f"delete {tmp_path} and start again"):
        for number in range(20):  # a norm's weights may come out right by luck
            self_check(live, plan, f"worker {number}")


def test_workers_look_at_different_tensors(pico: dict[str, Path]) -> None:
    live, plan = applied(document(pico))
    victim = plan.tensors[3].name
    live.tensor(victim).zero_()
    found = set()
    for number in range(2000):
        try:
            self_check(live, plan, f"worker {number}")
            found.add("sound")
        except SelfCheckFailed as error:
            assert victim in str(error)
            found.add("wrong")
        if len(found) == 2:
            return
    raise AssertionError(f"every worker found the same: {found}")


def test_experts_are_compared_where_they_are_fused(tmp_path: Path) -> None:
    one = write_pico(tmp_path / "one", 0, family="mixtral")
    two = write_pico(tmp_path / "two", 1, family="mixtral", near=one)
    live, plan = applied(
        {"merge_method": "linear", "models": [{"model": str(m), "parameters": {"weight": 1}} for m in (one, two)]}
    )
    assert all(self_check(live, plan, f"worker {number}") for number in range(30))
    expert = next(tensor.name for tensor in plan.tensors if ".experts.1." in tensor.name)
    assert live.tensor(expert).shape == next(t for t in plan.tensors if t.name == expert).shape


def test_a_gpu_may_be_off_by_a_unit() -> None:
    expected = torch.linspace(0.5, 2, 20_000).bfloat16()
    bits = expected.view(torch.int16)
    assert count_mismatches((bits + 1).view(torch.bfloat16), expected, exactly=False) == 0
    assert count_mismatches((bits + 1).view(torch.bfloat16), expected, exactly=True) == 20_000
    assert count_mismatches((bits + 3).view(torch.bfloat16), expected, exactly=False) > 10_000
    stray = expected.clone()
    stray[7] = 40.0
    assert count_mismatches(stray, expected, exactly=False) == 0
    stray[:5] = float("nan")
    assert count_mismatches(stray, expected, exactly=False) == 6
    assert count_mismatches(expected[:5], expected, exactly=False) == 20_000
