"""Exports: what leaves a run is what was scored, names parents as the user did, and says how it was made."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

import evomerge
from evomerge.errors import InvalidInput
from evomerge.recipe import load_recipe
from evomerge.results import export
from evomerge.run import Run


def test_hf_export_holds_everything(finished_run: Path, tmp_path: Path, pico: dict[str, Path]) -> None:
    run = Run(finished_run)
    export(run, tmp_path / "out", formats=["hf", "mergekit"])
    card = (tmp_path / "out" / "README.md").read_text()
    front_matter = yaml.safe_load(card.split("---")[1])
    assert front_matter["tags"] == ["merge", "evomerge"]
    assert front_matter["library_name"] == "transformers"
    (result,) = front_matter["model-index"][0]["results"]
    assert (result["dataset"]["type"], result["dataset"]["name"]) == ("share", "share, 40 held-out items")
    parents = [line for line in card.splitlines() if line.startswith("| `")]
    assert len(parents) == 3
    assert "held out, scored once" in card
    record = json.loads((tmp_path / "out" / "evomerge.json").read_text())
    assert record["recipe"] == run.recipe(run.pick).fingerprint
    assert {parent["name"] for parent in record["parents"]} == {str(pico[name]) for name in ("base", "one", "two")}
    assert record["candidate"]["scores"]["report"]["share"]["n"] == 40


def test_the_exported_recipe_builds_the_same_bytes(finished_run: Path, tmp_path: Path) -> None:
    export(Run(finished_run), tmp_path / "model", formats=["hf"])
    export(Run(finished_run), tmp_path / "texts", formats=["recipe", "mergekit"])
    evomerge.merge(tmp_path / "texts" / "recipe.yaml", tmp_path / "again")
    evomerge.merge(tmp_path / "texts" / "mergekit.yaml", tmp_path / "third")
    first = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert first == (tmp_path / "again" / "model.safetensors").read_bytes()
    assert first == (tmp_path / "third" / "model.safetensors").read_bytes()
    assert "evomerge" not in yaml.safe_load((tmp_path / "texts" / "mergekit.yaml").read_text())


def test_relative_parents_keep_their_names_and_are_found_from_the_export(
    pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe names parents as the user wrote them, wherever it is written to."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copytree(pico["one"], project / "models" / "one")
    text = yaml.safe_dump({"merge_method": "passthrough", "models": [{"model": "./models/one"}]})
    (project / "recipe.yaml").write_text(text)
    evomerge.merge(project / "recipe.yaml", tmp_path / "elsewhere" / "deep" / "out")
    written = tmp_path / "elsewhere" / "deep" / "out" / "recipe.yaml"
    document = yaml.safe_load(written.read_text())
    assert document["models"] == [{"model": "./models/one"}]
    assert str(tmp_path) not in written.read_text()
    monkeypatch.chdir(tmp_path)
    evomerge.merge(written, tmp_path / "again")
    assert load_file(tmp_path / "again" / "model.safetensors").keys()
    assert load_recipe(written).fingerprint == load_recipe(project / "recipe.yaml").fingerprint


def test_a_changed_parent_is_refused(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(finished_run)
    identity = run.fact("identity")
    changed = {**identity, "parents": dict.fromkeys(identity["parents"], "0" * 64)}
    fact = run.fact
    monkeypatch.setattr(run, "fact", lambda key, default=None: changed if key == "identity" else fact(key, default))
    with pytest.raises(InvalidInput, match="its weights are not those"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_any_candidate_can_be_exported_by_id(finished_run: Path, tmp_path: Path) -> None:
    run = Run(finished_run)
    (path,) = export(run, tmp_path / "out", candidate_id=10, formats=["recipe"])
    assert load_recipe(path).fingerprint == run.recipe(run.candidate(10)).fingerprint


def test_unknown_formats_and_existing_folders_are_refused(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='unknown format "hff"'):
        export(Run(finished_run), tmp_path / "out", formats=["hff"])
    with pytest.raises(InvalidInput, match="exists already"):
        export(Run(finished_run), finished_run, formats=["hf"])


def test_the_python_api_reads_a_run(finished_run: Path) -> None:
    run = evomerge.Run(finished_run)
    assert run.pick is not None
    assert run.pick.id in [candidate.id for candidate in run.front]
    assert run.verdict is not None
