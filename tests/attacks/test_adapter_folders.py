"""LoRA adapters that are damaged or made to do harm, and names of models that no file system takes."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.checkpoint import Checkpoint, open_model, resolve_model
from evomerge.errors import EvomergeError, InvalidInput, RefusedForSafety
from evomerge.recipe import ModelRef

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MODULE = "model.layers.0.self_attn.q_proj"
A, B = (f"base_model.model.{MODULE}.lora_{side}.weight" for side in "AB")


@pytest.fixture
def adapter(pico: dict[str, Path], tmp_path: Path) -> Path:
    """A LoRA of rank 2 on one weight."""
    rows, columns = Checkpoint(pico["one"], "one").tensors[f"{MODULE}.weight"].shape
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file({A: torch.ones(2, columns), B: torch.ones(rows, 2)}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    return folder


def opened(pico: dict[str, Path], adapter: Path) -> Any:
    model = open_model(ModelRef(str(pico["one"]), lora=ModelRef(str(adapter))))
    return model.tensor(f"{MODULE}.weight"), model.summary(digest=False)


def set_config(**values: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | values))

    return change


def set_factors(a: tuple[int, ...], b: tuple[int, ...]) -> Callable[[Path], object]:
    return lambda folder: save_file({A: torch.ones(a), B: torch.ones(b)}, folder / WEIGHTS)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, tuple[Callable[[Path], object], type[EvomergeError], str]] = {
    "no config": (lambda f: (f / CONFIG).unlink(), InvalidInput, f"no {CONFIG}"),
    "config is a list": (lambda f: (f / CONFIG).write_text("[]"), InvalidInput, "expected a JSON object"),
    "config is no text": (lambda f: (f / CONFIG).write_bytes(b"\xff"), InvalidInput, "not valid JSON"),
    "config is a pipe": (lambda f: replace_by_pipe(f / CONFIG), InvalidInput, "is not a file"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), InvalidInput, "is missing"),
    "weights are a pipe": (lambda f: replace_by_pipe(f / WEIGHTS), InvalidInput, "is not a file"),
    "weights are no safetensors": (lambda f: (f / WEIGHTS).write_bytes(b"x" * 99), InvalidInput, "damaged"),
    "pickle": (lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"), RefusedForSafety, "a pickle"),
    "another type": (set_config(peft_type=["LORA"]), InvalidInput, "expected LORA"),
    "alpha is a text": (set_config(lora_alpha="x"), InvalidInput, "expected a finite number"),
    "alpha is infinite": (set_config(lora_alpha=float("inf")), InvalidInput, "expected a finite number"),
    "alpha of a pattern": (set_config(alpha_pattern={"q_proj": None}), InvalidInput, "expected a finite number"),
    "patterns are a list": (set_config(alpha_pattern=["q_proj"]), InvalidInput, "alpha_pattern is no mapping"),
    "pattern is no pattern": (set_config(alpha_pattern={"(": 1}), InvalidInput, "alpha_pattern is no mapping"),
    "rank 0": (set_factors((0, 32), (32, 0)), InvalidInput, "expected [rank, columns] and [rows, rank]"),
    "ranks differ": (set_factors((2, 32), (32, 3)), InvalidInput, "expected [rank, columns] and [rows, rank]"),
    "vectors": (set_factors((32,), (32,)), InvalidInput, "expected [rank, columns] and [rows, rank]"),
    "convolution": (set_factors((2, 32, 1, 1), (32, 2, 1, 1)), InvalidInput, "is a convolution"),
    "of another model": (set_factors((2, 7), (32, 2)), InvalidInput, "belongs to another model"),
    "no dtype of weights": (
        lambda f: save_file({A: torch.ones(2, 32).to(torch.float8_e4m3fn), B: torch.ones(32, 2)}, f / WEIGHTS),
        InvalidInput,
        "has dtype F8_E4M3",
    ),
}


def test_the_adapter_of_these_tests_works(pico: dict[str, Path], adapter: Path) -> None:
    own = Checkpoint(pico["one"], "one").tensor(f"{MODULE}.weight")
    assert torch.equal(opened(pico, adapter)[0], (own.float() + 4).to(own.dtype))


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_adapter_is_a_sentence(name: str, pico: dict[str, Path], adapter: Path) -> None:
    damage, kind, sentence = DAMAGE[name]
    damage(adapter)
    with pytest.raises(kind) as caught:
        opened(pico, adapter)
    assert sentence in str(caught.value)
    assert str(adapter) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_are_sentences(seed: int, pico: dict[str, Path], adapter: Path) -> None:
    rng = random.Random(seed)
    assert load_file(adapter / WEIGHTS)
    for file in (CONFIG, WEIGHTS):
        content = (adapter / file).read_bytes()
        for _ in range(50):
            damaged = bytearray(content)
            for _ in range(rng.choice((1, 1, 2, 8))):
                damaged[rng.randrange(min(len(content), 400))] = rng.choice((rng.randrange(256), *b'0129"{}[],:-.'))
            (adapter / file).write_bytes(damaged)
            try:
                opened(pico, adapter)
            except EvomergeError as error:
                assert "\n" not in str(error)
        (adapter / file).write_bytes(content)


@pytest.mark.parametrize("path", ["a\0b", "/" + "a" * 4000, "./" + "x/" * 2000, "~no-such-user/model", "./loop/a"])
def test_a_name_that_no_file_system_takes(path: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidInput) as caught:
        resolve_model(ModelRef(path), tmp_path)
    assert "\n" not in str(caught.value)
