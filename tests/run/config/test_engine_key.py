"""`workers: {engine: ...}` of a search file: what cannot work is said before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.errors import InvalidFile
from evomerge.run import Setup, check_search, cost_of
from tests.run.pico_search import task, write_search

GENERATING = {
    "task": "saying",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "a",
    "test_split": "test",
    "dataset_path": "json",
    "generation_kwargs": {"until": ["?"], "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """As if vLLM were installed and knew every family; the answers can be changed."""
    answers: dict[str, str | None] = {"missing": None, "family": None}
    monkeypatch.setattr("evomerge.run.config._engine.missing_sentence", lambda: answers["missing"])
    monkeypatch.setattr("evomerge.run.config._engine.unknown_family", lambda config: answers["family"])
    monkeypatch.setattr("evomerge.run.config._engine.wrong_device", lambda device: None)
    return answers


def checked(
    folder: Path, pico: dict[str, Path], engine: Any, *, tasks: list[Any] | None = None, **workers: Any
) -> Setup:
    (folder / "tasks").mkdir(exist_ok=True)
    rows = [{"question": f"q{i}: {i * 7 % 31}"} for i in range(40)]
    (folder / "tasks" / "saying.jsonl").write_text("\n".join(map(json.dumps, rows)))
    content = {**GENERATING, "dataset_kwargs": {"data_files": {"test": str(folder / "tasks" / "saying.jsonl")}}}
    (folder / "tasks" / "saying.yaml").write_text(yaml.safe_dump(content))
    file = write_search(
        folder,
        pico,
        tasks=tasks or [{"task": "saying"}],
        task_path="tasks",
        pools={"search": 16, "select": 12, "report": 12},
        subset={"size": 8},
        workers={"count": 0, "engine": engine, **workers},
    )
    return check_search(file)


def problems(folder: Path, pico: dict[str, Path], engine: Any, **more: Any) -> list[str]:
    """Return what is wrong with a search."""
    with pytest.raises(InvalidFile) as caught:
        checked(folder, pico, engine, **more)
    return [f"{problem.where}: {problem.text}" for problem in caught.value.problems]


@pytest.mark.usefixtures("installed")
def test_the_engine_is_part_of_what_a_score_means(tmp_path: Path, pico: dict[str, Path]) -> None:
    plain = checked(tmp_path, pico, "transformers")
    assert plain.vllm is None
    assert "engine" not in plain.identity(), "runs of older versions go on"
    setup = checked(tmp_path, pico, {"name": "vllm", "tensor_parallel": 2, "max_length": 64})
    assert setup.identity()["engine"] == "vllm"
    assert setup.vllm is not None
    assert (setup.vllm.tensor_parallel, setup.vllm.max_length) == (2, 64)
    assert setup.models_held == 1
    assert any("vLLM writes the answers of saying" in note for note in setup.notes)
    for checked_setup, said in ((plain, ""), (setup, "no vLLM engine was started")):
        cost = cost_of(checked_setup)
        assert cost is not None
        assert said in cost.caveat and bool(said) == bool(cost.caveat)


@pytest.mark.usefixtures("installed")
def test_tasks_that_do_not_generate_stay_with_transformers(tmp_path: Path, pico: dict[str, Path]) -> None:
    setup = checked(tmp_path, pico, "vllm", tasks=[{"task": "saying"}, task()])
    assert setup.models_held == 2
    assert any("transformers scores nearness" in note for note in setup.notes)
    [problem] = problems(tmp_path, pico, "vllm", tasks=[task()])
    assert "no task generates text" in problem


def test_a_missing_package_or_family_is_one_sentence(
    tmp_path: Path, pico: dict[str, Path], installed: dict[str, str | None]
) -> None:
    installed["missing"] = "vllm is not installed: pip install ..."
    [problem] = problems(tmp_path, pico, "vllm")
    assert "workers.engine: vllm is not installed" in problem
    installed |= {"missing": None, "family": "vLLM has no model for Pico"}
    [problem] = problems(tmp_path, pico, "vllm")
    assert problem.endswith("workers.engine: vLLM has no model for Pico")


@pytest.mark.usefixtures("installed")
def test_settings_without_effect_or_word_are_refused(
    tmp_path: Path, pico: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    [problem] = problems(tmp_path, pico, {"name": "transformers", "tensor_parallel": 2})
    assert "tensor_parallel: has no effect on transformers" in problem
    [problem] = problems(tmp_path, pico, {"name": "vllm", "tensor_parallel": 2}, gpus=1)
    assert "needs workers.gpus: 2, found 1" in problem
    [problem] = problems(tmp_path, pico, "sglang")
    assert "workers.engine" in problem
    settings = pico["base"] / "generation_config.json"
    before = settings.read_text()
    try:
        settings.write_text(json.dumps({"num_beams": 4}))
        found = problems(tmp_path, pico, "vllm")
    finally:
        settings.write_text(before)
    assert any("cannot generate with num_beams: 4" in problem for problem in found)
