"""The structure of published merges (published.yaml): each builds here as it stands, and is what mergekit makes of it.

{base} has eight blocks, {one} to {four} are fine-tunes of it, all in float32; {lora} is an adapter of the base.
Where masks are random, the draws are not mergekit's: names, shapes, types and the config are compared. Arcee Fusion's
divergences of almost equal rows are rounding noise in float32, so that some elements at its threshold differ.
"""

import json
from pathlib import Path

import pytest
import yaml

pytest.importorskip("mergekit", reason="mergekit is not installed; `make peers` builds an environment that has it")

import evomerge
from evomerge.testing.pico import character_tokenizer, write_pico
from tests.peers.test_yaml_against_mergekit import TOLERANCE, filled, ours, tensors, theirs

PUBLISHED = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
LAYERS = 8
NOISY_SHARE = {"arcee fusion of a fine-tune into another": 0.02}  # of the elements, may differ


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    sizes = {"num_hidden_layers": LAYERS, "vocab_size": len(character_tokenizer())}  # mergekit cuts padded rows off
    made = {"base": write_pico(root / "base", 0, **sizes)}
    for seed, name in enumerate(("one", "two", "three", "four"), start=1):
        made[name] = write_pico(root / name, seed, near=made["base"], **sizes)
    evomerge.extract_lora(made["one"], made["base"], root / "lora", rank=4)
    return made | {"lora": root / "lora"}


def test_there_are_sixty() -> None:
    assert len(PUBLISHED) >= 60 and len(set(PUBLISHED.values())) == len(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_merge_is_the_same(name: str, parents: dict[str, Path], tmp_path: Path) -> None:
    text = filled(PUBLISHED[name], parents)
    folders = ours(text, tmp_path / "ours"), theirs(text, tmp_path / "theirs")
    mine, reference = (tensors(folder) for folder in folders)
    assert {key: (t.shape, t.dtype) for key, t in mine.items()} == {
        key: (t.shape, t.dtype) for key, t in reference.items()
    }
    if not name.startswith("masks, "):
        other = total = 0
        for key, tensor in mine.items():
            differences = (tensor.double() - reference[key].double()).abs()
            other += int((differences > TOLERANCE * float(reference[key].double().abs().max())).sum())
            total += tensor.numel()
        assert other <= NOISY_SHARE.get(name, 0.0) * total, f"{other} of {total} elements differ"
    config = [json.loads((folder / "config.json").read_text()) for folder in folders]
    for key in ("num_hidden_layers", "vocab_size", "architectures", "tie_word_embeddings"):
        assert config[0].get(key) == config[1].get(key), key
