"""The verbs soup, moe and lora through the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from evomerge.cli import cli
from evomerge.errors import InvalidInput
from tests.choice_task import write_choice_task


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def tasks(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A task of three choices, with copies of its data kept out of the user's cache."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    folder = tmp_path / "tasks"
    folder.mkdir()
    write_choice_task(folder, "letters", choices=3, count=60)
    yield folder
    datasets.config.HF_DATASETS_CACHE = before


def test_soup(pico: dict[str, Path], tasks: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    models = [pico[name] for name in ("one", "two", "three")]
    scored = ["--tasks", "letters", "--task-path", tasks, "--limit", "40"]
    result = run("soup", tmp_path / "out", "--models", *models, *scored, "--json")
    assert result.exception is None
    found = json.loads(result.stdout)
    assert found["steps"][0]["kept"]
    alone = [step["alone"] for step in found["steps"]]
    assert alone == sorted(alone, reverse=True)
    assert found["report"]["soup"]["letters"]["n"] == 60
    assert result.stderr.count("\n") == 5  # three alone, two averages
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert [entry["model"] for entry in recipe["models"]] == found["members"]
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert found["text"] in (tmp_path / "out" / "README.md").read_text()
    again = run("soup", tmp_path / "again", "--models", *models, *scored)
    assert again.exception is None
    assert "soup with it" in again.stdout
    assert found["text"] in again.stdout
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "again/model.safetensors").read_bytes()


def test_soup_refuses_before_it_scores(pico: dict[str, Path], tasks: Path, tmp_path: Path) -> None:
    from evomerge.testing.pico import write_pico

    wide = write_pico(tmp_path / "wide", 1, intermediate_size=64)
    scored = ["--tasks", "letters", "--task-path", tasks, "--limit", "40"]
    before = sorted(path.name for path in tmp_path.iterdir())
    for models, text in (
        ([pico["one"]], "at least two different checkpoints"),
        ([pico["one"], wide], "only models of one architecture"),
        ([pico["one"], tmp_path / "absent"], "no such folder"),
    ):
        result = run("soup", tmp_path / "out", "--models", *models, *scored)
        assert isinstance(result.exception, InvalidInput)
        assert text in str(result.exception)
    result = run("soup", wide, "--models", pico["one"], pico["two"], *scored)
    assert "exists already" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_moe(pico: dict[str, Path], tmp_path: Path) -> None:
    experts = [{"source_model": str(pico[name]), "positive_prompts": [f"{name}"]} for name in ("one", "two")]
    file = tmp_path / "experts.yaml"
    file.write_text(yaml.safe_dump({"base_model": str(pico["base"]), "gate_mode": "hidden", "experts": experts}))
    result = run("moe", file, tmp_path / "out")
    assert result.exception is None
    assert result.stdout.strip() == str(tmp_path / "out")
    assert "mixtral: 2 experts" in result.stderr
    file.write_text(file.read_text().replace("gate_mode", "gate_mod"))
    result = run("moe", file, tmp_path / "other")
    assert 'experts.yaml: unknown key "gate_mod"' in str(result.exception)
    assert not (tmp_path / "other").exists()


def test_lora(pico: dict[str, Path], tmp_path: Path) -> None:
    result = run("lora", pico["one"], pico["base"], tmp_path / "out", "--rank", "8", "--exclude", "lm_head")
    assert result.exception is None
    assert "model.layers.0.mlp.down_proj" in result.stdout
    assert "left out, though they differ" in result.stdout
    result = run("lora", pico["one"], pico["base"], tmp_path / "other", "--rank", "8", "--save-rest", "--json")
    found = json.loads(result.stdout)
    assert {module["rank"] for module in found["modules"]} == {8}
    assert found["left_out"] == []
    assert 0 < found["error"] < 1
    result = run("lora", pico["one"], pico["base"], tmp_path / "out")
    assert "exists already" in str(result.exception)
