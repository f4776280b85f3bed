"""Files of tensors that are no models: any names, safetensors or pickles of weights, all or some tensors in common."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import evomerge
from evomerge.cli import cli
from evomerge.errors import InvalidInput, RefusedForSafety


def tensors(seed: int, *names: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(4, 6, generator=generator) for name in names}


def recipe(*files: Path, **rest: Any) -> dict[str, Any]:
    models = [{"model": str(file), "parameters": {"weight": i + 1}} for i, file in enumerate(files)]
    return {"merge_method": "linear", "models": models, **rest}


def merged(out: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(out / "model.safetensors")
    return found


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two state dicts with two tensors in common and one of their own; `a.0.x` ends like `0.x`, which is another."""
    first = tensors(1, "a.0.x", "0.x", "only.first", "rotary_emb.inv_freq")
    second = tensors(2, "a.0.x", "0.x", "only.second", "rotary_emb.inv_freq")
    save_file(first, tmp_path / "first.safetensors")
    torch.save({"state_dict": second, "step": 3}, tmp_path / "second.pt")
    return [tmp_path / "first.safetensors", tmp_path / "second.pt"]


def test_what_all_have_is_merged_by_its_name(files: list[Path], tmp_path: Path) -> None:
    found = merged(evomerge.merge_files(recipe(*files), tmp_path / "out", tensors="intersection", unpickle=True))
    first, second = load_file(files[0]), torch.load(files[1], weights_only=True)["state_dict"]
    assert set(found) == {"a.0.x", "0.x", "rotary_emb.inv_freq"}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (first[name] + 2 * second[name]) / 3)


def test_what_some_have_is_merged_of_those(files: list[Path], tmp_path: Path) -> None:
    found = merged(evomerge.merge_files(recipe(*files), tmp_path / "out", tensors="union", unpickle=True))
    assert set(found) == {"a.0.x", "0.x", "only.first", "only.second", "rotary_emb.inv_freq"}
    torch.testing.assert_close(found["only.first"], load_file(files[0])["only.first"])


def test_task_vectors_of_files(tmp_path: Path) -> None:
    for i in range(3):
        save_file(tensors(i, "w"), tmp_path / f"{i}.safetensors")
    document = recipe(tmp_path / "1.safetensors", tmp_path / "2.safetensors")
    document |= {"merge_method": "task_arithmetic", "base_model": str(tmp_path / "0.safetensors")}
    found = merged(evomerge.merge_files(document, tmp_path / "out"))["w"]
    base, one, two = (tensors(i, "w")["w"] for i in range(3))
    torch.testing.assert_close(found, base + (one - base) + 2 * (two - base))


def test_names_that_differ_are_an_error_unless_said(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no tensor only"):
        evomerge.merge_files(recipe(*files), tmp_path / "out", unpickle=True)
    assert not (tmp_path / "out").exists()


def test_pickles_are_read_only_if_allowed_and_run_no_code(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RefusedForSafety, match="--unpickle"):
        evomerge.merge_files(recipe(*files), tmp_path / "out", tensors="union")

    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "hostile.pt").write_bytes(pickle.dumps({"w": Hostile()}))
    torch.save({"w": Hostile()}, tmp_path / "hostile.bin")
    for name in ("hostile.pt", "hostile.bin"):
        with pytest.raises(InvalidInput, match="holds more than weights"):
            evomerge.merge_files(recipe(tmp_path / name, files[0]), tmp_path / "out", unpickle=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer_source": "union"}, "tokenizer_source: files have no vocabulary"),
        ({"evomerge": {"gains": [1.0]}}, "gains and merges are of models"),
    ],
)
def test_what_only_models_have_is_refused(
    files: list[Path], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        evomerge.merge_files({**recipe(files[0]), **change}, tmp_path / "out")


def test_files_that_are_missing_or_no_tensors(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        evomerge.merge_files(recipe(tmp_path / "none.safetensors"), tmp_path / "out")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InvalidInput, match="no mapping of names to tensors"):
        evomerge.merge_files(recipe(tmp_path / "list.pt"), tmp_path / "out", unpickle=True)
    (tmp_path / "text.txt").write_text("w")
    with pytest.raises(InvalidInput, match="expected one of"):
        evomerge.merge_files(recipe(tmp_path / "text.txt"), tmp_path / "out")


def test_the_command_finds_files_beside_the_recipe(files: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("merge_method: linear\nmodels: [{model: ./first.safetensors, parameters: {weight: 1}}]\n")
    result = CliRunner().invoke(cli, ["merge-files", str(file), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert set(merged(tmp_path / "out")) == set(load_file(files[0]))
    both = CliRunner().invoke(cli, ["merge-files", str(file), str(tmp_path / "again"), "-i", "-u"])
    assert both.exit_code == 2
