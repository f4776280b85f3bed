"""A damaged or unfit parent: one clear error, and no output folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.api.merge import merge
from evomerge.errors import (
    DegenerateModel,
    EvomergeError,
    InvalidInput,
    RefusedForSafety,
)
from evomerge.testing.pico import write_pico

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def truncate(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def make_hole(folder: Path) -> None:
    """Leave bytes between two tensors that belong to none."""
    content = (folder / WEIGHTS).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    last = max((k for k in header if k != "__metadata__"), key=lambda k: header[k]["data_offsets"][1])
    header[last]["data_offsets"] = [offset + 64 for offset in header[last]["data_offsets"]]
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :] + b"\0" * 64)


def leave_unwritten(folder: Path) -> None:
    """Leave a hole in the file, as an interrupted download does that reserved the file's space."""
    content = (folder / WEIGHTS).read_bytes()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(content[: 1 << 15])
        file.seek(1 << 16)
        file.write(content[1 << 16 :])


def bad_header(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes((2**40).to_bytes(8, "little") + content[8:])


def lose_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))


def extra_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.layers.1.mlp.new_proj.weight": torch.ones(2, 2)}))


def other_shape(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(31)}))


def whole_numbers(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(folder, lambda tensors: tensors.update({name: torch.ones(tensors[name].shape, dtype=torch.int8)}))


def put_nan(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors["model.layers.2.self_attn.q_proj.weight"].view(-1)[7:8].fill_(torch.nan))


def put_infinity(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors["lm_head.weight"].view(-1)[-1:].fill_(torch.inf))


def promise_tensor(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.missing.weight": WEIGHTS}}))


def lose_shard(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}))


def leave_folder(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "../secret.safetensors"}}))


def twice(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file({"model.norm.weight": tensors["model.norm.weight"]}, folder / "b.safetensors")
    names = dict.fromkeys(tensors, WEIGHTS) | {"model.norm.weight": "b.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))


def pickle_only(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def quantize(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


FAULTS: dict[Callable[[Path], None], tuple[type[EvomergeError], str]] = {
    truncate: (InvalidInput, "is damaged or not a safetensors file"),
    make_hole: (InvalidInput, "is damaged or not a safetensors file"),
    leave_unwritten: (InvalidInput, "was never written (the file has holes)"),
    bad_header: (InvalidInput, "is damaged or not a safetensors file"),
    lose_tensor: (InvalidInput, "has no tensor model.layers.1.mlp.up_proj.weight"),
    extra_tensor: (InvalidInput, "has no tensor model.layers.1.mlp.new_proj.weight"),
    other_shape: (InvalidInput, "model.norm.weight is 31 in"),
    whole_numbers: (InvalidInput, "is int8 in"),
    put_nan: (DegenerateModel, "holds NaN or infinity already"),
    put_infinity: (DegenerateModel, "lm_head.weight is not finite"),
    promise_tensor: (InvalidInput, "lists model.missing.weight in"),
    lose_shard: (InvalidInput, "which is missing"),
    leave_folder: (RefusedForSafety, "expected a .safetensors file beside it"),
    twice: (InvalidInput, "is both in"),
    pickle_only: (RefusedForSafety, "a pickle"),
    quantize: (InvalidInput, "is quantized (gptq)"),
    no_config: (InvalidInput, "config.json is missing"),
}


IN_TENSORS = (put_nan, put_infinity)  # found while a method runs; the others before, whatever the method
ONLY_ANOTHER_MODEL = (lose_tensor, extra_tensor, other_shape, whole_numbers)  # where it is merged alone
CASES = [(fault, "linear") for fault in FAULTS]
CASES += [(fault, "ties") for fault in (*IN_TENSORS, *ONLY_ANOTHER_MODEL)]
CASES += [(fault, "passthrough") for fault in IN_TENSORS]


@pytest.mark.parametrize(("fault", "method"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_a_faulty_parent_is_named_and_nothing_is_left(
    fault: Callable[[Path], None], method: str, tmp_path: Path
) -> None:
    base = write_pico(tmp_path / "base", 0)
    bad = write_pico(tmp_path / "bad", 1, near=base)
    fault(bad)
    kind, words = FAULTS[fault]
    parameters = {"linear": {"weight": 1}, "ties": {"weight": 1, "density": 0.5}, "passthrough": {}}[method]
    names = [bad] if method == "passthrough" else [base, bad]
    document = {
        "merge_method": method,
        "base_model": str(base),
        "models": [{"model": str(name), "parameters": parameters} for name in names],
    }
    with pytest.raises(kind) as caught:
        merge(document, tmp_path / "out")
    assert words in str(caught.value)
    assert "bad" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"base", "bad"}
