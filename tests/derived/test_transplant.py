"""A model on another model's tokenizer: shared tokens keep their rows, new ones get combinations of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import evomerge
from evomerge.checkpoint import Checkpoint
from evomerge.cli import cli
from evomerge.derived.vocabulary import match_tokens, orthogonal_pursuit
from evomerge.errors import InvalidInput
from evomerge.testing.families import VISION_CONFIGS
from evomerge.testing.pico import write_pico
from tests.engine.trained_tokenizers import ENGLISH, GERMAN, byte_fallback, byte_level, write

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """Models that write tokens in letters for bytes, and with underscores for blanks."""
    return {
        "english": write(tmp_path / "english", 1, byte_level(ENGLISH)),
        "german": write(tmp_path / "german", 2, byte_level(GERMAN)),
        "pieces": write(tmp_path / "pieces", 3, byte_fallback(ENGLISH)),
    }


def test_a_combination_of_a_few_atoms_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(200, 48, generator=generator) * torch.rand(200, 1, generator=generator).add(0.1)
    chosen = torch.stack([torch.randperm(200, generator=generator)[:3] for _ in range(20)])
    weights_N3 = torch.rand(20, 3, generator=generator) + 0.5
    targets = torch.einsum("nk,nkd->nd", weights_N3, atoms[chosen] / atoms[chosen].norm(dim=2, keepdim=True))
    found = orthogonal_pursuit(targets, atoms, 8)
    assert float(found.errors.max()) < 1e-3
    torch.testing.assert_close(found.apply(atoms), targets, rtol=1e-3, atol=1e-3)
    shifted = atoms @ torch.randn(48, 16, generator=generator)
    expected = torch.einsum("nk,nkd->nd", found.weights, shifted[found.atoms.clamp(min=0)])
    torch.testing.assert_close(found.apply(shifted), expected)


def test_the_fit_is_that_of_least_squares_over_the_chosen_atoms() -> None:
    generator = torch.Generator().manual_seed(1)
    atoms, targets = torch.randn(50, 12, generator=generator), torch.randn(5, 12, generator=generator)
    found = orthogonal_pursuit(targets, atoms, 4)
    assert all(len(set(row.tolist())) == 4 for row in found.atoms)
    for row in range(5):
        own = atoms[found.atoms[row]].T.double()
        expected = torch.linalg.lstsq(own, targets[row].double()).solution
        torch.testing.assert_close(found.weights[row].double(), expected, rtol=1e-4, atol=1e-5)
    assert bool((orthogonal_pursuit(targets, atoms, 5).errors <= found.errors).all())


def test_a_vector_of_zeros_and_atoms_that_repeat() -> None:
    atoms = torch.eye(4)[[0, 0, 1]]
    found = orthogonal_pursuit(torch.tensor([[0.0, 0, 0, 0], [2.0, 1.0, 0, 0]]), atoms, 3)
    torch.testing.assert_close(found.apply(atoms), torch.tensor([[0.0, 0, 0, 0], [2.0, 1.0, 0, 0]]))
    assert bool(torch.isfinite(found.weights).all())


def test_tokens_are_the_same_by_their_bytes(models: dict[str, Path]) -> None:
    english, pieces = Checkpoint(models["english"], "english"), Checkpoint(models["pieces"], "pieces")
    match = match_tokens(english, pieces, (10_000, 10_000))
    own, other = english.tokenizer.vocabulary, pieces.tokenizer.vocabulary
    blank = next(token for token in other if token.startswith("▁") and token.replace("▁", "Ġ") in own)
    assert match.rows[other[blank]] == own[blank.replace("▁", "Ġ")]
    assert match.rows[other["<0xC3>"]] == own["Ã"]
    assert not set(match.rows) & set(match.new)
    assert set(match.rows) | set(match.new) == set(other.values())


@pytest.mark.parametrize("new_rows", ["omp", "subword", "mean"])
def test_shared_tokens_keep_their_rows_and_the_folder_is_a_model(
    models: dict[str, Path], tmp_path: Path, new_rows: Any
) -> None:
    report = evomerge.transplant(models["english"], models["german"], tmp_path / "out", new_rows=new_rows)
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(models["german"]).get_vocab()
    own, found = weights(models["english"]), weights(tmp_path / "out")
    known = AutoTokenizer.from_pretrained(models["english"]).get_vocab()
    shared = {number: known[token] for token, number in tokenizer.get_vocab().items() if token in known}
    assert len(shared) <= report.shared < len(tokenizer)
    assert report.shared + report.new + report.padding == len(found[EMBEDDING])
    for name in (EMBEDDING, HEAD):
        assert torch.equal(found[name][list(shared)], own[name][list(shared.values())])
    others = set(own) - {EMBEDDING, HEAD}
    assert all(torch.equal(found[name], own[name]) for name in others)
    tokens = torch.tensor([tokenizer.encode(GERMAN[0])])
    assert bool(torch.isfinite(model(tokens).logits).all())


def test_rows_carry_over_where_one_space_is_a_map_of_the_other(models: dict[str, Path], tmp_path: Path) -> None:
    """The German model's rows are the true ones, turned: a combination of all shared rows says the new ones exactly."""
    generator = torch.Generator().manual_seed(5)
    english, german = weights(models["english"]), weights(models["german"])
    known = AutoTokenizer.from_pretrained(models["english"]).get_vocab()
    vocabulary = AutoTokenizer.from_pretrained(models["german"]).get_vocab()
    true = torch.randn(german[EMBEDDING].shape, generator=generator)
    for token, number in vocabulary.items():
        if token in known:
            true[number] = english[EMBEDDING][known[token]].float()
    german[EMBEDDING] = (true @ torch.randn(32, 32, generator=generator)).to(german[EMBEDDING].dtype)
    save_file(german, models["german"] / "model.safetensors", {"format": "pt"})
    evomerge.transplant(models["english"], models["german"], tmp_path / "out", atoms=32)
    found = weights(tmp_path / "out")[EMBEDDING]
    new = [number for token, number in vocabulary.items() if token not in known]
    assert len(new) > 10
    torch.testing.assert_close(found[new], true[new], rtol=0.02, atol=0.02)


def test_a_model_on_its_own_tokenizer_stays_what_it_is(models: dict[str, Path], tmp_path: Path) -> None:
    report = evomerge.transplant(models["english"], models["english"], tmp_path / "out")
    assert report.new == 0 and report.error is None
    found, own = weights(tmp_path / "out"), weights(models["english"])
    tokens = len(AutoTokenizer.from_pretrained(models["english"]))
    assert torch.equal(found[EMBEDDING][:tokens], own[EMBEDDING][:tokens])


def test_what_does_not_fit_is_refused_in_words(models: dict[str, Path], tmp_path: Path) -> None:
    seeing = write_pico(tmp_path / "vlm", 0, family="llava", **VISION_CONFIGS["llava"])
    with pytest.raises(InvalidInput, match="knows tokens beside its embedding"):
        evomerge.transplant(seeing, models["german"], tmp_path / "out")
    with pytest.raises(InvalidInput, match="expected one of omp, subword, mean"):
        evomerge.transplant(models["english"], models["german"], tmp_path / "out", new_rows="opm")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_the_command_reports_what_it_did(models: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["transplant", str(models["english"]), str(models["german"]), str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["new"] > 0 and 0 <= report["error"] < 1
    assert (tmp_path / "out" / "README.md").read_text().count("orthogonal matching pursuit") == 1
