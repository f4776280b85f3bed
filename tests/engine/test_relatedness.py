"""What `check` says of parents: descent from the base, resolution of the dtype, vocabularies."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from evomerge.checkpoint import Checkpoint
from evomerge.cli.check import command
from evomerge.engine import relatedness, vocabulary_notes
from evomerge.testing.pico import write_pico


def opened(folder: Path) -> Checkpoint:
    return Checkpoint(folder, folder.name)


def moved(base: Path, folder: Path, scale: float) -> Path:
    """Write the base with a task vector of a given share of its size."""
    write_pico(folder, 0)
    generator = torch.Generator().manual_seed(1)
    tensors = load_file(base / "model.safetensors")
    for name, tensor in tensors.items():
        noise = torch.randn(tensor.shape, generator=generator)
        tensors[name] = tensor + noise * (scale * tensor.norm() / noise.norm())
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("scale", [0.01, 0.1])
def test_the_size_of_a_task_vector(scale: float, tmp_path: Path) -> None:
    base = write_pico(tmp_path / "base", 0)
    (found,) = relatedness(opened(base), [opened(moved(base, tmp_path / "child", scale))], torch.float32)
    assert found.size == pytest.approx(scale, rel=0.05)
    assert found.cosine == pytest.approx((1 + scale**2) ** -0.5, abs=1e-3)
    assert found.lost < 0.01
    assert found.warning is None


def test_a_stranger_and_a_twin(tmp_path: Path) -> None:
    base, other = write_pico(tmp_path / "base", 0), write_pico(tmp_path / "other", 1)
    stranger, twin = relatedness(opened(base), [opened(other), opened(base)], None)
    assert "other does not descend from base" in str(stranger.warning)
    assert abs(stranger.cosine) < 0.2
    assert "have the same weights" in str(twin.warning)


def test_a_task_vector_below_the_resolution_of_the_result(tmp_path: Path) -> None:
    base = write_pico(tmp_path / "base", 0)
    child = opened(moved(base, tmp_path / "child", 1e-4))
    coarse, fine = (relatedness(opened(base), [child], dtype)[0] for dtype in ("bfloat16", "float32"))
    assert coarse.lost > 0.9
    assert "below the resolution of bfloat16" in str(coarse.warning)
    assert fine.lost < 0.01
    assert fine.warning is None


def test_the_check_command_shows_numbers_and_warnings(tmp_path: Path) -> None:
    base, other = write_pico(tmp_path / "base", 0), write_pico(tmp_path / "other", 1)
    document = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": str(other), "parameters": {"weight": 0.5}}],
    }
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(command, [str(path), "--json"])
    facts = json.loads(result.output)["facts"]
    assert "cosine" in facts["relatedness"][0]
    assert any("does not descend" in note for note in facts["notes"])


def test_other_ids_are_noted(tmp_path: Path) -> None:
    base, other = write_pico(tmp_path / "base", 0), write_pico(tmp_path / "other", 1)
    path = other / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    words["@@"] = words.pop("c")
    path.write_text(json.dumps(content))
    (note,) = vocabulary_notes([opened(base), opened(other)])
    assert "other has 2 tokens under other ids than base and 1 of its own" in note
    assert vocabulary_notes([opened(base), opened(base)]) == []


def checked(document: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Return what `check --json` says of a recipe."""
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(command, [str(path), "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)["facts"]
    return found


def arithmetic(base: Path | str, *models: Path | str, **rest: Any) -> dict[str, Any]:
    entries = [{"model": str(model), "parameters": {"weight": 0.5}} for model in models]
    return {"merge_method": "task_arithmetic", "base_model": str(base), "models": entries, **rest}


def test_a_parent_with_an_adapter(tmp_path: Path) -> None:
    """The adapter is its whole task vector."""
    from evomerge import extract_lora

    base = write_pico(tmp_path / "base", 0)
    extract_lora(moved(base, tmp_path / "child", 0.05), base, tmp_path / "lora", rank=64)
    facts = checked(arithmetic(base, f"{base}+{tmp_path / 'lora'}"), tmp_path)
    assert len(facts["parents"]) == 2
    (line,) = facts["relatedness"]
    assert line.startswith(f"{base}+{tmp_path / 'lora'}: task vector 4.") or "task vector 5." in line
    assert facts["notes"] == []


def test_a_merge_as_a_parent(tmp_path: Path) -> None:
    """Inner merges are looked at as well, each against its own base."""
    base, other = write_pico(tmp_path / "base", 0), write_pico(tmp_path / "other", 9)
    near = moved(base, tmp_path / "near", 0.02)
    inner = arithmetic(base, near, other)
    facts = checked(arithmetic(base, "inner", evomerge={"merges": {"inner": inner}}), tmp_path)
    assert [line.partition(": task vector")[0] for line in facts["relatedness"]] == ["inner", str(near), str(other)]
    strangers = [note for note in facts["notes"] if "does not descend" in note]
    assert [note.partition(" does not")[0] for note in strangers] == ["inner", str(other)]  # half of one is a stranger


def test_other_vocabulary_sizes_are_left_out_of_the_comparison(tmp_path: Path) -> None:
    base = write_pico(tmp_path / "base", 0)
    longer = write_pico(tmp_path / "longer", 0, vocab_size=80)
    tensors, old = load_file(longer / "model.safetensors"), load_file(base / "model.safetensors")
    same = {name: old[name] * 1.01 if tensor.shape == old[name].shape else tensor for name, tensor in tensors.items()}
    save_file(same, longer / "model.safetensors", {"format": "pt"})
    facts = checked(arithmetic(base, longer, tokenizer={"source": "base"}), tmp_path)
    (line,) = facts["relatedness"]
    assert "task vector 1.00% of the base's size, cosine of its weights and the base's 1.0000" in line


def test_below_the_resolution_in_a_recipe(tmp_path: Path) -> None:
    """What decides is the dtype of the result."""
    base = write_pico(tmp_path / "base", 0)
    document = arithmetic(base, moved(base, tmp_path / "child", 1e-4), out_dtype="bfloat16")
    (note,) = checked(document, tmp_path)["notes"]
    assert "below the resolution of bfloat16; set dtype: float32" in note
    assert checked(document | {"out_dtype": "float32"}, tmp_path)["notes"] == []
