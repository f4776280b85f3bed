"""The quickstart's pools never overlap with each other or with training, and the committed files are reproducible."""

import importlib
import json
import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "experiments" / "quickstart"
MODELS = QUICKSTART / "models"
TRAINING_SAMPLE = 5000  # items drawn from each training stream
MAX_WEIGHT_BYTES = 6_000_000  # of all parents together
MAX_DATA_BYTES = 300_000


@pytest.fixture(scope="module", autouse=True)
def scripts_on_path() -> Iterator[None]:
    """Make the scripts importable by name, as they are for each other."""
    sys.path.insert(0, str(ROOT / "scripts"))
    yield
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def data(scripts_on_path: None) -> ModuleType:
    """The data generator."""
    return importlib.import_module("make_zoo_data")


@pytest.fixture(scope="module")
def trainer(scripts_on_path: None) -> ModuleType:
    """The trainer."""
    return importlib.import_module("train_zoo")


def test_pools_are_disjoint_by_content(data: ModuleType) -> None:
    for skill in data.SKILLS.values():
        keys = {pool: {item.key for item in data.held_out_items(skill, pool)} for pool in data.POOLS}
        assert not keys["validation"] & keys["test"]
        assert all(data.pool_of(skill, item) == "test" for item in data.held_out_items(skill, "test"))


def test_prompts_of_a_pool_are_distinct_and_enough(data: ModuleType) -> None:
    for skill in data.SKILLS.values():
        for pool in data.POOLS:
            prompts = [row["prompt"] for row in data.rows_of(skill, pool)]
            assert len(set(prompts)) == len(prompts) >= 512


def test_training_never_sees_a_held_out_item(data: ModuleType, trainer: ModuleType) -> None:
    held_out = {
        item.key for skill in data.SKILLS.values() for pool in data.POOLS for item in data.held_out_items(skill, pool)
    }
    for course in trainer.COURSES.values():
        seen = {item.key for item in islice(trainer.training_items(course), TRAINING_SAMPLE)}
        assert seen and not seen & held_out


def test_a_mirror_image_shares_the_pool(data: ModuleType) -> None:
    rng = random.Random(0)
    for _ in range(200):
        word = data.draw_reverse(rng)
        mirror = data.Item(word.target + "=", word.prompt[:-1], min(word.target, word.prompt[:-1]))
        assert data.pool_of(data.SKILLS["reverse"], mirror) == data.pool_of(data.SKILLS["reverse"], word)


@pytest.mark.parametrize(("number", "kanji"), [(1, "一"), (10, "十"), (1111, "千百十一"), (14096, "一万四千九十六")])
def test_kanji_numerals(data: ModuleType, number: int, kanji: str) -> None:
    assert data.to_kanji(number) == kanji


def test_committed_files_are_what_the_generator_writes(data: ModuleType) -> None:
    files = data.build_files()
    for name, text in files.items():
        assert (QUICKSTART / "tasks" / name).read_bytes() == text.encode(), name
    assert sum(len(text.encode()) for text in files.values()) < MAX_DATA_BYTES


def test_answer_positions_are_shuffled(data: ModuleType) -> None:
    for skill in data.SKILLS.values():
        for pool in data.POOLS:
            rows = data.rows_of(skill, pool)
            if not skill.multiple_choice:
                continue
            for index in range(data.N_CHOICES):
                share = sum(row["answer"] == index for row in rows) / len(rows)
                assert 0.1 < share < 0.3
            assert all(len(set(row["choices"])) == data.N_CHOICES for row in rows)


def test_parents_are_small_and_bfloat16(trainer: ModuleType) -> None:
    paths = [MODELS / name / "model.safetensors" for name in trainer.COURSES]
    assert sum(path.stat().st_size for path in paths) < MAX_WEIGHT_BYTES
    for path in paths:
        with safe_open(path, framework="pt") as weights:
            assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118


def test_tokenizers_round_trip_every_item(data: ModuleType, trainer: ModuleType) -> None:
    from transformers import AutoTokenizer

    texts = [
        text
        for skill in data.SKILLS.values()
        for pool in data.POOLS
        for row in data.rows_of(skill, pool)
        for text in (row["prompt"] + answer for answer in row.get("choices") or [row["target"]])
    ]
    for name in trainer.COURSES:
        tokenizer = AutoTokenizer.from_pretrained(MODELS / name, local_files_only=True)
        config = json.loads((MODELS / name / "config.json").read_text("utf-8"))
        specials = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
        assert specials < set(range(config["vocab_size"]))
        encoded = tokenizer(texts)["input_ids"]
        assert all(len(ids) == len(text) for ids, text in zip(encoded, texts, strict=True))
        assert tokenizer.batch_decode(encoded) == texts
