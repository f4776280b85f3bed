"""A plain language model is merged into the language model of one that also sees, live and in the export."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evomerge.api.export import export
from evomerge.engine import LiveModel, make_plan
from evomerge.errors import InvalidFile
from evomerge.results import explain_document, write_report
from evomerge.run import Run, check_search, search
from evomerge.testing.families import VISION_CONFIGS
from evomerge.testing.pico import auto_class, write_pico

TOKENS = torch.arange(3, 35).view(2, 16)


def spread(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    """Return how far apart a model's logits are, a little different for each item."""
    with torch.no_grad():
        width = float(model(TOKENS).logits.float().std())
    return [width + 0.01 * item["i"] for item in items]


def data(base: Path, model: Path, space: Any = "vision_language") -> dict[str, Any]:
    return {
        "parents": {"base": str(base), "models": [str(model)]},
        "space": space,
        "tasks": [{"scorer": spread, "items": [{"i": i} for i in range(12)]}],
        "pools": {"search": 4, "select": 4, "report": 4},
        "subset": {"size": 2},
        "optimizer": "cma",
        "budget": {"candidates": 6},
        "workers": {"count": 0},
        "proof": {"finalists": 2},
    }


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that sees, and language models: of its family and size, and of another family."""
    folder = tmp_path_factory.mktemp("parents")
    return {
        "sees": write_pico(folder / "sees", 0, family="llava", **VISION_CONFIGS["llava"]),
        "reads": write_pico(folder / "reads", 2, family="llama", head_dim=8),
        "other": write_pico(folder / "other", 3, family="qwen2"),
    }


@pytest.fixture(scope="module")
def run(parents: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(data(parents["sees"], parents["reads"]), tmp_path_factory.mktemp("search") / "run")


def test_it_is_searched_and_the_export_is_what_was_scored(run: Run, parents: dict[str, Path], tmp_path: Path) -> None:
    assert run.state == "done" and not [c for c in run.candidates() if c.state != "scored"]
    names = [candidate.name for candidate in run.candidates() if candidate.kind in ("parent", "simple")]
    assert names == [str(parents["sees"]), str(parents["reads"]), *(f"task arithmetic {w}" for w in (0.3, 0.5, 0.7, 1))]
    found = max((c for c in run.candidates() if c.kind == "candidate"), key=lambda c: c.id)
    (folder,) = export(run.path, tmp_path / "out", candidate_id=found.id, formats=["hf"])
    loaded = auto_class("llava").from_pretrained(folder).eval()
    setup = check_search(data(parents["sees"], parents["reads"]))
    live = LiveModel(setup.parents)
    live.apply(make_plan(setup.recipe(found.recipe), setup.parents))
    with torch.no_grad():
        assert torch.equal(loaded(TOKENS).logits, live.model(TOKENS).logits)
    merged, seeing = (load_file(path / "model.safetensors") for path in (folder, parents["sees"]))
    language = {name for name in seeing if name.startswith("language_model.")}
    assert all(torch.equal(merged[name], seeing[name]) for name in seeing.keys() - language)
    assert any(not torch.equal(merged[name], seeing[name]) for name in language)


def test_every_layer_has_a_weight_of_its_own(parents: dict[str, Path]) -> None:
    """Genes go by the tensor names of the model that sees, whose blocks are called otherwise."""
    setup = check_search(data(parents["sees"], parents["reads"]))
    lowest = tuple(0.0 for _ in setup.space.start.reals)
    for gene in range(len(lowest)):
        point = type(setup.space.start)(reals=tuple(0.4 * (i == gene) for i in range(len(lowest))))
        plan = make_plan(setup.recipe(setup.space.decode(point)), setup.parents)
        moved = [
            tensor.name for tensor in plan.tensors if not tensor.copied and dict(tensor.settings.parents[0])["weight"]
        ]
        assert moved and all(name.startswith("language_model.") for name in moved)
        layer = setup.space.coordinates[gene].removesuffix(" (text_decoder)").rpartition("layer ")[2]
        if layer.isdigit():
            assert all(f".layers.{layer}." in name for name in moved)


def test_explain_and_report_know_its_shares(run: Run) -> None:
    found = next(c for c in run.candidates() if c.kind == "candidate")
    shares = explain_document(run, found)["shares"]
    assert {parent for row in shares.values() for parent in row} == {c.name for c in run.candidates()[:2]}
    assert write_report(run).stat().st_size > 10_000


def test_what_does_not_fit_is_refused(parents: dict[str, Path]) -> None:
    whole = {"method": "task_arithmetic", "genes": {"weight": {"per": "model", "range": [0, 1]}}}
    for model, space in (("reads", whole), ("other", "vision_language")):
        with pytest.raises(InvalidFile, match="LlavaForConditionalGeneration; parents must share one architecture"):
            check_search(data(parents["sees"], parents[model], space))
    tower = {"method": "linear", "modules": {"vision_tower": {"genes": {"weight": {"per": "model"}}}}}
    with pytest.raises(InvalidFile, match="architecture"):
        check_search(data(parents["sees"], parents["reads"], tower))
