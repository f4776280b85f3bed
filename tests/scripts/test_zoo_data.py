"""The zoos' pools never overlap with each other or with training, and the committed files are reproducible."""

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
MODELS = ROOT / "experiments" / "quickstart" / "models"
ZOOS = ("quickstart", "natural")
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


@pytest.mark.parametrize("zoo", ZOOS)
def test_pools_are_disjoint_by_content(data: ModuleType, zoo: str) -> None:
    for skill in data.ZOOS[zoo].skills.values():
        keys = {pool: {item.key for item in data.held_out_items(skill, pool)} for pool in data.POOLS}
        assert not keys["validation"] & keys["test"]
        assert all(data.pool_of(skill, item) == "test" for item in data.held_out_items(skill, "test"))


@pytest.mark.parametrize("zoo", ZOOS)
def test_prompts_of_a_pool_are_distinct_and_enough(data: ModuleType, zoo: str) -> None:
    for skill in data.ZOOS[zoo].skills.values():
        for pool in data.POOLS:
            prompts = [row["prompt"] for row in data.rows_of(skill, pool)]
            assert len(set(prompts)) == len(prompts) >= 512


@pytest.mark.parametrize("zoo", ZOOS)
def test_training_never_sees_a_held_out_item(data: ModuleType, trainer: ModuleType, zoo: str) -> None:
    training = trainer.TRAININGS[zoo]
    skills = training.zoo.skills
    held_out = {
        item.key for skill in skills.values() for pool in data.POOLS for item in data.held_out_items(skill, pool)
    }
    for course in training.courses.values():
        seen = {item.key for item in islice(trainer.training_items(skills, course), TRAINING_SAMPLE)}
        assert seen and not seen & held_out


def test_a_mirror_image_shares_the_pool(data: ModuleType) -> None:
    rng = random.Random(0)
    for _ in range(200):
        word = data.draw_reverse(rng)
        mirror = data.Item(word.target + "=", word.prompt[:-1], min(word.target, word.prompt[:-1]))
        assert data.pool_of(data.ZOOS["quickstart"].skills["reverse"], mirror) == data.pool_of(
            data.ZOOS["quickstart"].skills["reverse"], word
        )


@pytest.mark.parametrize(("number", "kanji"), [(1, "一"), (10, "十"), (1111, "千百十一"), (14096, "一万四千九十六")])
def test_kanji_numerals(data: ModuleType, number: int, kanji: str) -> None:
    assert data.to_kanji(number) == kanji


@pytest.mark.parametrize(("number", "roman"), [(1, "i"), (4, "iv"), (1994, "mcmxciv"), (3999, "mmmcmxcix")])
def test_roman_numerals(data: ModuleType, number: int, roman: str) -> None:
    assert data.to_roman(number) == roman


@pytest.mark.parametrize("zoo", ZOOS)
def test_answers_are_right(data: ModuleType, zoo: str) -> None:
    def shifted(prompt: str) -> str:
        word, by = prompt[:-1].split("+")
        return "".join(chr((ord(letter) - 97 + int(by)) % 26 + 97) for letter in word)

    answers = {
        "add": lambda prompt: str(sum(map(int, prompt[:-1].split("+")))),
        "reverse": lambda prompt: prompt[-2::-1],
        "sub": lambda prompt: str(eval(prompt[:-1])),
        "sort": lambda prompt: "".join(sorted(prompt[:-1])),
        "count": lambda prompt: str(prompt.split("#")[0].count(prompt[-2])),
        "shift": shifted,
    }
    for name, skill in data.ZOOS[zoo].skills.items():
        if name in answers:
            items = data.held_out_items(skill, "test")
            assert [item.target for item in items] == [answers[name](item.prompt) for item in items]


@pytest.mark.parametrize("zoo", ZOOS)
def test_committed_files_are_what_the_generator_writes(data: ModuleType, zoo: str) -> None:
    files = data.build_files(data.ZOOS[zoo])
    for name, text in files.items():
        assert (data.ZOOS[zoo].tasks / name).read_bytes() == text.encode(), name
    assert sum(len(text.encode()) for text in files.values()) < MAX_DATA_BYTES


def test_answer_positions_are_shuffled(data: ModuleType) -> None:
    for skill in data.ZOOS["quickstart"].skills.values():
        for pool in data.POOLS:
            rows = data.rows_of(skill, pool)
            if not skill.multiple_choice:
                continue
            for index in range(data.N_CHOICES):
                share = sum(row["answer"] == index for row in rows) / len(rows)
                assert 0.1 < share < 0.3
            assert all(len(set(row["choices"])) == data.N_CHOICES for row in rows)


def test_parents_are_small_and_bfloat16(trainer: ModuleType) -> None:
    paths = [MODELS / name / "model.safetensors" for name in trainer.TRAININGS["quickstart"].courses]
    assert sum(path.stat().st_size for path in paths) < MAX_WEIGHT_BYTES
    for path in paths:
        with safe_open(path, framework="pt") as weights:
            assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118


def texts_of(data: ModuleType, zoo: str) -> list[str]:
    """Return every text that a zoo's models are scored on."""
    return [
        text
        for skill in data.ZOOS[zoo].skills.values()
        for pool in data.POOLS
        for row in data.rows_of(skill, pool)
        for text in (row["prompt"] + answer for answer in row.get("choices") or [row["target"]])
    ]


def test_the_tokenizer_of_the_natural_zoo_round_trips_every_item(data: ModuleType, trainer: ModuleType) -> None:
    texts = texts_of(data, "natural")
    tokenizer = trainer.build_tokenizer(trainer.TRAININGS["natural"].ids)
    encoded = tokenizer(texts)["input_ids"]
    assert all(len(ids) == len(text) for ids, text in zip(encoded, texts, strict=True))
    assert tokenizer.batch_decode(encoded) == texts


def test_natural_models_train_and_are_saved(trainer: ModuleType, tmp_path: Path) -> None:
    whole = trainer.TRAININGS["natural"]
    courses = {"base": trainer.Course(11, (trainer.Stage({"sort": 1.0}, steps=2, rate=1e-3),))}
    training = trainer.Training(whole.zoo, whole.build_model, courses)
    model = training.untrained()
    trainer.train(model, training, "base")
    rows = trainer.read_rows(training.zoo.tasks, "natural_sort", "test")[:8]
    scores = {"natural_sort": trainer.accuracy(model, rows, training.ids)}
    trainer.save(model, training.ids, tmp_path, trainer.card_of(training, "base", model, scores))
    assert "8 blocks, 96 wide" in (tmp_path / "README.md").read_text("utf-8")
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["architectures"] == ["Qwen2ForCausalLM"]


def test_tokenizers_round_trip_every_item(data: ModuleType, trainer: ModuleType) -> None:
    from transformers import AutoTokenizer

    texts = texts_of(data, "quickstart")
    for name in trainer.TRAININGS["quickstart"].courses:
        tokenizer = AutoTokenizer.from_pretrained(MODELS / name, local_files_only=True)
        config = json.loads((MODELS / name / "config.json").read_text("utf-8"))
        specials = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
        assert specials < set(range(config["vocab_size"]))
        encoded = tokenizer(texts)["input_ids"]
        assert all(len(ids) == len(text) for ids, text in zip(encoded, texts, strict=True))
        assert tokenizer.batch_decode(encoded) == texts
