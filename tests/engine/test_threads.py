"""Several threads write the same bytes as one, whatever is merged; what fails in one of them fails the merge."""

import filecmp
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.api.merge import merge
from evomerge.engine import threads_by_bandwidth
from evomerge.errors import DegenerateModel, InvalidInput
from evomerge.methods import use_kernels

SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"weight": 0.4},
    "ties": {"weight": 0.7, "density": 0.5},
    "dare_ties": {"weight": 0.7, "density": 0.4},
    "della": {"weight": 0.7, "density": 0.4, "epsilon": 0.1},
    "slerp": {},
    "model_stock": {},
}


def document(pico: dict[str, Path], method: str) -> dict[str, Any]:
    names = ("one",) if method == "slerp" else ("one", "two", "three")
    models = [{"model": str(pico[name]), "parameters": SETTINGS[method]} for name in names]
    if method == "slerp":
        models.insert(0, {"model": str(pico["base"])})
    more = {"parameters": {"t": 0.3}} if method == "slerp" else {}
    return {"merge_method": method, "base_model": str(pico["base"]), "models": models, **more}


def same(one: Path, other: Path) -> bool:
    """Tell whether two folders' weight files are equal."""
    names = sorted(path.name for path in one.glob("*.safetensors"))
    return names != [] and filecmp.cmpfiles(one, other, names, shallow=False) == (names, [], [])


@pytest.mark.parametrize("use", ["always", "never"])
@pytest.mark.parametrize("method", SETTINGS)
def test_threads_change_no_byte(method: str, use: Any, pico: dict[str, Path], tmp_path: Path) -> None:
    with use_kernels(use):
        one = merge(document(pico, method), tmp_path / "one", shard_bytes=40_000)
        for threads in (2, 3, 7):
            several = merge(document(pico, method), tmp_path / f"{threads}", shard_bytes=40_000, threads=threads)
            assert same(one, several)


def test_threads_share_a_merge_that_is_a_model(pico: dict[str, Path], tmp_path: Path) -> None:
    inner = {**document(pico, "ties"), "name": "inner"}
    names = ["inner", str(pico["two"])]
    outer = {"merge_method": "linear", "models": [{"model": name, "parameters": {"weight": 1}} for name in names]}
    import yaml

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump_all([inner, {**outer, "name": "outer"}]))
    assert same(merge(recipe, tmp_path / "one"), merge(recipe, tmp_path / "three", threads=3))


def test_torch_keeps_its_own_threads(pico: dict[str, Path], tmp_path: Path) -> None:
    before = torch.get_num_threads()
    merge(document(pico, "linear"), tmp_path / "out", threads=2)
    assert torch.get_num_threads() == before


def test_a_failure_in_a_thread_leaves_nothing(pico: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    bad = Path(shutil.copytree(pico["one"], tmp_path / "bad"))
    tensors = load_file(bad / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, bad / "model.safetensors", {"format": "pt"})
    with pytest.raises(DegenerateModel, match=r"layers\.1\.mlp\.up_proj"):
        merge(document({**pico, "one": bad}, "ties"), tmp_path / "out", threads=3)
    assert {path.name for path in tmp_path.iterdir()} == {"bad"}


def test_zero_is_measured_and_nonsense_refused(pico: dict[str, Path], tmp_path: Path) -> None:
    assert threads_by_bandwidth() >= 1
    assert same(
        merge(document(pico, "linear"), tmp_path / "measured", threads=0),
        merge(document(pico, "linear"), tmp_path / "one"),
    )
    with pytest.raises(InvalidInput, match="threads: found -1"):
        merge(document(pico, "linear"), tmp_path / "out", threads=-1)
