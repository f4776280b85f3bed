"""Unions of trained tokenizers against mergekit 0.1.5: the same tokens with the same rows.

What text is turned into differs on purpose (docs/recipes.md): mergekit's union cuts every new token out of the text
before anything else, which changes how the base reads its own language.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

pytest.importorskip("mergekit", reason="mergekit is not installed; `make peers` builds an environment that has it")

from tokenizers import AddedToken
from transformers import AutoTokenizer

import evomerge
from tests.engine.trained_tokenizers import ENGLISH, GERMAN, JAPANESE, byte_fallback, byte_level, unigram, union, write


def theirs(document: dict[str, Any], out: Path) -> Path:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    text = yaml.safe_load(yaml.safe_dump(document))
    options = MergeOptions(write_model_card=False, quiet=True)
    run_merge(MergeConfiguration.model_validate(text), str(out), options=options)
    return out


@pytest.fixture(params=["byte level", "byte fallback", "unigram"])
def parents(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Path]:
    first = {"byte level": byte_level, "byte fallback": byte_fallback, "unigram": unigram}[request.param](ENGLISH)
    second = (
        byte_fallback([*ENGLISH, *JAPANESE], like=first) if request.param == "byte fallback" else byte_level(GERMAN)
    )
    second = unigram([*GERMAN, *JAPANESE]) if request.param == "unigram" else second
    tool = AddedToken("<tool>", special=True, normalized=False)
    base, one = write(tmp_path / "base", 0, first), write(tmp_path / "one", 1, second, tool)
    return (
        base,
        one,
        write(tmp_path / "two", 2, first, AddedToken("<|im_start|>", special=True, normalized=False), tool),
    )


def test_tokens_and_rows_are_the_same(parents: tuple[Path, Path, Path], tmp_path: Path) -> None:
    document = union(*parents) | {"dtype": "float32"}
    folders = evomerge.merge(document, tmp_path / "ours"), theirs(document, tmp_path / "theirs")
    words = [AutoTokenizer.from_pretrained(folder).get_vocab() for folder in folders]
    assert set(words[0]) == set(words[1])
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        mine, reference = (load_file(folder / "model.safetensors")[name] for folder in folders)
        assert mine.shape == reference.shape
        order = sorted(words[0])
        picked = [mine[[words[0][t] for t in order]], reference[[words[1][t] for t in order]]]
        torch.testing.assert_close(*picked, atol=1e-6, rtol=1e-6)


def test_the_base_goes_on_reading_its_own_language(tmp_path: Path) -> None:
    parents = write(tmp_path / "base", 0, byte_level(ENGLISH)), write(tmp_path / "one", 1, byte_level(GERMAN))
    document = union(*parents)
    base = AutoTokenizer.from_pretrained(parents[0])
    mine = AutoTokenizer.from_pretrained(evomerge.merge(document, tmp_path / "ours"))
    reference = AutoTokenizer.from_pretrained(theirs(document, tmp_path / "theirs"))
    text = " ".join([*ENGLISH, "schnell und schoen"])
    assert mine.tokenize(text) == base.tokenize(text)
    assert reference.tokenize(text) != base.tokenize(text)
