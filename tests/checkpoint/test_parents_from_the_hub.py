"""Hub ids become folders once, pinned to the commit that they stood for, and the result says which."""

from pathlib import Path
from typing import Any

import pytest

from evomerge.api.merge import merge, plan_merge
from evomerge.checkpoint import Parents
from evomerge.errors import InvalidFile, InvalidInput
from evomerge.recipe import ModelRef, load_recipe, parse_recipe
from evomerge.testing.pico import write_pico

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """A hub with one repository, owner/tiny, that has two commits; returns the list of downloads."""
    for seed, commit in enumerate((OLD, NEW)):
        write_pico(tmp_path / "cache" / "snapshots" / commit, seed)
    asked: list[tuple[str, str | None]] = []

    def snapshot_download(
        repo: str, *, revision: str | None = None, allow_patterns: list[str], ignore_patterns: Any = None
    ) -> str:
        if ignore_patterns is not None:  # the first of two calls; the second, for the weights, is for its commit
            asked.append((repo, revision))
        assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in allow_patterns)
        if repo != "owner/tiny":
            raise OSError("404 Client Error: not found\nmore")
        commit = {None: NEW, "main": NEW, "v1": OLD}.get(revision, revision)
        return str(tmp_path / "cache" / "snapshots" / str(commit))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    return asked


def recipe(name: str, **extension: Any) -> dict[str, Any]:
    document: dict[str, Any] = {"merge_method": "passthrough", "models": [{"model": name}]}
    return document | ({"evomerge": extension} if extension else {})


def test_a_name_is_resolved_once_and_the_commit_is_known(hub: Any) -> None:
    ref = ModelRef.parse("owner/tiny")
    parents = Parents([ref, ref])
    assert hub == [("owner/tiny", None)]
    assert parents[ref].summary().commit == NEW
    assert parents.commits == {"owner/tiny": NEW}


@pytest.mark.parametrize(("name", "commit"), [("owner/tiny@v1", OLD), ("owner/tiny", NEW)])
def test_card_record_and_recipe_state_the_commit(name: str, commit: str, hub: Any, tmp_path: Path) -> None:
    out = merge(recipe(name), tmp_path / "out")
    assert f"at commit `{commit}`" in (out / "README.md").read_text()
    assert f'"commit": "{commit}"' in (out / "evomerge.json").read_text()
    assert load_recipe(out / "recipe.yaml").commits == {name: commit}
    again = merge(out / "recipe.yaml", tmp_path / "again")
    assert hub[-1] == ("owner/tiny", commit)
    assert (out / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_the_written_recipe_gives_the_same_model_after_the_hub_moved_on(hub: Any, tmp_path: Path) -> None:
    pinned = parse_recipe(recipe("owner/tiny", commits={"owner/tiny": OLD}))
    first = merge(pinned, tmp_path / "first")
    assert hub == [("owner/tiny", OLD)]
    again = merge(first / "recipe.yaml", tmp_path / "again")
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert pinned.fingerprint != parse_recipe(recipe("owner/tiny")).fingerprint


def test_a_pin_for_a_model_that_the_recipe_does_not_name_is_refused() -> None:
    with pytest.raises(InvalidFile, match='Did you mean "owner/tiny"'):
        parse_recipe(recipe("owner/tiny", commits={"owner/tini": OLD}))
    with pytest.raises(InvalidFile, match='Did you mean "owner/tiny@v1"'):
        parse_recipe(recipe("owner/tiny@v1", commits={"owner/tiny": OLD}))
    with pytest.raises(InvalidFile, match=r"evomerge\.commits"):
        parse_recipe(recipe("owner/tiny", commits={"owner/tiny": "main"}))


def test_what_is_not_to_be_had_is_one_sentence(hub: Any) -> None:
    with pytest.raises(InvalidInput, match="neither a folder here nor available") as caught:
        plan_merge(recipe("owner/other"))
    assert "\n" not in str(caught.value)
