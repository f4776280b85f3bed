"""`evomerge evaluate RECIPE` gives the answers that lm-eval finds in the folder that `evomerge merge RECIPE` writes."""

import functools
import json
import os
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from evomerge.cli import cli
from evomerge.testing.pico import write_pico
from tests.chat_task import FUNCTIONS, SETTINGS, TEMPLATE
from tests.run.workers.vllm_models import HEAD_WIDTH


@pytest.fixture
def chat_models(tmp_path: Path) -> list[Path]:
    """Two chat models in bf16, with norms in float32 and generation settings and a template of their own."""
    import torch
    from safetensors.torch import load_file, save_file

    shape: dict[str, Any] = {"dtype": "bfloat16", "head_dim": HEAD_WIDTH}
    one = write_pico(tmp_path / "one", 0, **shape)
    models = [one, write_pico(tmp_path / "two", 1, near=one, **shape)]
    for folder in models:
        (folder / "generation_config.json").write_text(json.dumps(SETTINGS | {"no_repeat_ngram_size": 3}))
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        tensors = load_file(folder / "model.safetensors")
        stored = {name: tensor.to(torch.float32) if "norm" in name else tensor for name, tensor in tensors.items()}
        save_file(stored, folder / "model.safetensors", {"format": "pt"})
    return models


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    """A generation task with few-shot examples and stop strings."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    for split, count in (("train", 6), ("test", 20)):
        rows = [
            {"question": f"{split} {i}: {i * 7 % 31}+{i}", "answer": f"{'abc'[i % 3] * (i % 4 + 1)}"}
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "functions.py").write_text(FUNCTIONS)
    task = {
        "task": "chatting",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}},
        "training_split": "train",
        "test_split": "test",
        "fewshot_split": "train",
        "num_fewshot": 2,
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["ba", "5 3 5 5 4"], "max_gen_toks": 24, "do_sample": False},
        "metric_list": [{"metric": "digest", "aggregation": "mean", "higher_is_better": True}],
    }
    text = yaml.safe_dump(task) + "process_results: !function functions.digest\n"
    (folder / "chatting.yaml").write_text(text)
    return folder


def run(*arguments: str) -> str:
    """Run a command and return what it prints."""
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def scores(recipe: Path, task_folder: Path, batch_size: int, engine: str = "transformers") -> dict[str, float]:
    """Return what `evomerge evaluate` finds."""
    tasks = ["--tasks", "chatting", "--task-path", str(task_folder), "--apply-chat-template"]
    options = ["--batch-size", str(batch_size), "--engine", engine, "--json"]
    found: dict[str, float] = json.loads(run("evaluate", str(recipe), *tasks, *options))["scores"]["chatting"]
    return found


def lm_eval_arguments(model: Path, folder: Path, batch_size: int, out: Path) -> list[str]:
    """Return what follows `lm_eval` on its command line."""
    arguments = ["run", "--model", "hf", "--model_args", f"pretrained={model}", "--device", "cpu"]
    arguments += ["--tasks", "chatting", "--include_path", str(folder), "--batch_size", str(batch_size)]
    return [*arguments, "--apply_chat_template", "--output_path", str(out), "--log_samples"]


def lm_eval_found(out: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Return metrics, and question -> answer, that lm-eval has written."""
    (results,), (samples,) = list(out.rglob("results_*.json")), list(out.rglob("samples_*.jsonl"))
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    metrics = json.loads(results.read_text())["results"]["chatting"]
    return metrics, {row["doc"]["question"]: row["filtered_resps"][0] for row in rows}


def lm_eval_run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call lm-eval's own command line in this process, without its 14,000 tasks, for time."""
    from lm_eval import tasks
    from lm_eval.__main__ import cli_evaluate

    only = functools.partial(tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr(tasks, "TaskManager", only)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setattr(sys, "argv", ["lm_eval", *arguments])
    cli_evaluate()


def assert_same(score: dict[str, float], out: Path) -> None:
    """Compare evomerge's score with lm-eval's: of a number that differs with every letter of an answer."""
    metrics, answers = lm_eval_found(out)
    digests = [zlib.crc32(answer.encode()) / 2**32 for answer in answers.values()]
    # The mean and the spread: equal only if all answers are.
    assert score["value"] == pytest.approx(sum(digests) / len(digests), abs=1e-12)
    assert score["value"] == pytest.approx(metrics["digest,none"], abs=1e-12)
    assert score["stderr"] == pytest.approx(metrics["digest_stderr,none"], abs=1e-12)
    assert len(answers) == 20
    assert len(set(answers.values())) > 10, "answers that tell models apart"
    assert any(len(answer) < 20 for answer in answers.values()), "some end by a stop string or an end token"


@pytest.fixture
def recipe(chat_models: list[Path], tmp_path: Path, dtype: str) -> Path:
    """A merge of the two."""
    named = [{"model": str(model), "parameters": {"weight": 1}} for model in chat_models]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"merge_method": "linear", "models": named, "dtype": dtype}))
    return path


# In bfloat16, lm-eval's own answers differ between its batch sizes; those of one row a batch are the same bits.
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "batch_size"), [("bfloat16", 1), ("float32", 4)])
def test_a_recipe_is_scored_by_the_answers_of_its_export(
    batch_size: int, recipe: Path, task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("merge", str(recipe), str(tmp_path / "out"))
    lm_eval_run(lm_eval_arguments(tmp_path / "out", task_folder, batch_size, tmp_path / "lm_eval"), monkeypatch)
    assert_same(scores(recipe, task_folder, batch_size), tmp_path / "lm_eval")


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")
@pytest.mark.timeout(900)  # four programs that each load their libraries, and an engine that starts
@pytest.mark.parametrize("dtype", ["float32"])
def test_three_programs_give_the_same_answers(recipe: Path, task_folder: Path, tmp_path: Path) -> None:
    run("merge", str(recipe), str(tmp_path / "out"))
    command = [sys.executable, "-m", "lm_eval"]
    command += lm_eval_arguments(tmp_path / "out", task_folder, 4, tmp_path / "lm_eval")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    for engine in ("transformers", "{name: vllm, max_length: 160}"):
        assert_same(scores(recipe, task_folder, 4, engine), tmp_path / "lm_eval")
