"""`evaluate(engine=...)`: the scores of the other engine, and refusals in words before anything is prepared."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge import evaluate
from evomerge.errors import InvalidFile
from tests.run.workers.vllm_models import linear, write_models, write_tasks
from tests.vllm_stand_in import install

CHATS: dict[str, Any] = {"lm_eval": {"apply_chat_template": True}, "limit": 6, "batch_size": 4}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merge of two chat models, with the folder `tasks` beside it."""
    folder = tmp_path_factory.mktemp("chat")
    write_tasks(folder / "tasks")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(linear(write_models(folder / "models"), 0.3)))
    return folder / "recipe.yaml"


def refusal(recipe: Path, engine: Any, *tasks: str, **more: Any) -> str:
    """Return the sentence of what cannot be evaluated."""
    with pytest.raises(InvalidFile) as caught:
        evaluate(recipe, tasks or ("chatting",), task_path=recipe.parent / "tasks", engine=engine, **CHATS | more)
    return str(caught.value)


def test_vllm_scores_as_transformers_does_and_its_engine_is_ended(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = install(monkeypatch)
    tasks = {"tasks": ["chatting", "choosing"], "task_path": recipe.parent / "tasks"}
    served = evaluate(recipe, **tasks, **CHATS, engine={"name": "vllm", "max_length": 200})
    assert [engine.loads for engine in engines] == [1]
    assert engines[0].closed
    assert served == evaluate(recipe, **tasks, **CHATS)
    assert len(engines) == 1


def test_vllm_that_is_not_installed_is_said_first(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evomerge.engine.vllm._installed.find_spec", lambda name: None)
    found = refusal(recipe, "vllm", "no_such_task")
    assert found.startswith("engine: vllm is not installed: pip install 'evomerge[vllm]'")
    assert found.endswith("or take engine: transformers")


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("sglang", "engine: name: found 'sglang', input should be 'transformers' or 'vllm'"),
        ({"name": "vllm", "max_len": 8}, 'unknown key "max_len"'),
        ({"name": "transformers", "eager": True}, "eager: has no effect on transformers"),
        (["vllm"], "found ['vllm'], expected a mapping"),
    ],
)
def test_what_is_no_engine(engine: Any, said: str, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert said in refusal(recipe, engine)


def test_what_vllm_cannot_do_is_said_before_it_starts(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = install(monkeypatch, device="cuda")
    assert "no task generates text" in refusal(recipe, "vllm", "choosing", device="cuda")
    assert "vLLM as installed here runs on cuda, and merges are built on cpu" in refusal(recipe, "vllm")
    assert "set CUDA_VISIBLE_DEVICES=1" in refusal(recipe, "vllm", device="cuda:1")
    settings = recipe.parent / "models" / "two" / "generation_config.json"
    before = settings.read_text()
    try:
        settings.write_text('{"num_beams": 4}')
        found = refusal(recipe, "vllm")
    finally:
        settings.write_text(before)
    assert "cannot generate with num_beams: 4" in found
    assert "runs on cuda" in found, "every problem at once"
    assert not engines
