"""Tasks whose answers are code, and tasks that are Python classes: refused without leave, run in a sandbox with it."""

from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import EvomergeError, InvalidFile
from evomerge.evaluation import PoolSizes, Prepared, TaskRequest, prepare_tasks, sandbox
from evomerge.evaluation.sandbox import Limits

ALL = PoolSizes(search=4, select=4, report=4)
# The pattern of lm-eval's humaneval/utils.py: the metric is loaded, and tried, when the file is.
PASSING = """
import evaluate

code_eval = evaluate.load("code_eval")
code_eval.compute(references=["assert add(2, 3) == 5"], predictions=[["def add(a, b): return a * b"]], k=[1])

def pass_at_k(references, predictions, k):
    return code_eval.compute(references=references, predictions=predictions, k=k, timeout=0.5)[0]

def build(resps, docs):
    return [[doc["start"] + doc["body"] for _ in resp] for resp, doc in zip(resps, docs)]
"""
OWN = '''
import sys

def results(doc, results):
    """A task that runs programs by itself."""
    assert "torch" not in sys.modules, "the process for code takes longer to start than it need"
    names = {}
    exec(doc["start"] + doc["body"], names)
    return {"right": float(names["f"](2) == 4)}
'''
CLASS = '''
import datasets
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

class Contains(ConfigurableTask):
    """The pattern of lm-eval's squad_completion, fda and swde."""
    VERSION = 1

    def __init__(self, **kwargs):
        super().__init__(config={"metadata": {"version": self.VERSION}})

    def download(self, *_, **__):
        rows = [{"text": f"say {i}:", "value": "abc"[i % 3]} for i in range(12)]
        self.dataset = {"validation": datasets.Dataset.from_list(rows)}

    def has_training_docs(self):
        return False

    def has_validation_docs(self):
        return True

    def has_test_docs(self):
        return False

    def validation_docs(self):
        return self.dataset["validation"]

    def doc_to_text(self, doc):
        return doc["text"]

    def doc_to_target(self, doc):
        return doc["value"]

    def construct_requests(self, doc, ctx, chat_template=None, apply_chat_template=False, **kwargs):
        arguments = (ctx, {"until": ["\\n"], "max_gen_toks": 6})
        return [Instance(request_type="generate_until", doc=doc, arguments=arguments, idx=0, **kwargs)]

    def process_results(self, doc, results):
        return {"contains": int(doc["value"] in results[0] or doc["value"] == "a")}

    def aggregation(self):
        return {"contains": np.mean}

    def higher_is_better(self):
        return {"contains": True}
'''
GOOD, WRONG, ENDLESS = "    return x * x\n", "    return x + 1\n", "    while True: pass\n"
WRITES, FORKS = "    open('/tmp/evomerge-left', 'w'); return 4\n", "    import os; os.fork(); return 4\n"


def programs(bodies: list[str]) -> list[dict[str, str]]:
    return [{"prompt": f"program {i}", "start": f"def f(x):  # {i}\n", "body": body} for i, body in enumerate(bodies)]


def code_task(write_task: Any, bodies: list[str], functions: str, tail: str) -> Path:
    """Write a task whose "answer" is the document's own program, so that a test knows what is run."""
    folder: Path = write_task(
        "programs",
        {"test": programs(bodies)},
        unsafe_code=True,
        output_type="generate_until",
        doc_to_text="{{prompt}}",
        doc_to_target="assert f(2) == 4",
        generation_kwargs={"until": ["\n"], "max_gen_toks": 2},
    )
    (folder / "own.py").write_text(functions)
    with (folder / "programs.yaml").open("a") as file:
        file.write(tail)
    return folder


def prepared(folder: Path, name: str, pools: PoolSizes = ALL, **options: Any) -> Prepared:
    return prepare_tasks([TaskRequest(task=name)], task_path=folder, pools=pools, seed=0, allow_code=[name], **options)


def scores_of_all(items: Prepared, name: str, model: Any, tokenizer: Any) -> dict[int, float]:
    scorer = items.scorer(model, tokenizer, batch_size=4)
    found = scorer.score({name: [i for pool in items.pools[name].values() for i in pool]})[name]
    return dict(zip(found.ids, found.values, strict=True))


def test_programs_pass_or_fail_within_limits(write_task: Any, model: Any, tokenizer: Any) -> None:
    bodies = [GOOD, WRONG, ENDLESS, WRITES, FORKS, "    import math; return int(math.sqrt(16))\n"] + [GOOD] * 6
    tail = (
        "metric_list:\n  - {metric: !function own.pass_at_k, aggregation: mean, higher_is_better: true, k: [1]}\n"
        "filter_list:\n  - {name: create, filter: [{function: custom, filter_fn: !function own.build}]}\n"
    )
    folder = code_task(write_task, bodies, PASSING, tail)
    with pytest.raises(InvalidFile, match=r"runs code that the model writes .* allow_code: \[programs\]"):
        prepare_tasks([TaskRequest(task="programs")], task_path=folder, pools=ALL, seed=0)
    with pytest.raises(InvalidFile, match=r'allow_code: "program" is none of the tasks\. Did you mean "programs"'):
        prepare_tasks([TaskRequest(task="programs")], task_path=folder, pools=ALL, seed=0, allow_code=["program"])
    items = prepared(folder, "programs")
    assert items.objectives[0].metric == "pass@1"
    assert any("process of its own" in note for note in items.notes)
    assert items.facts["programs"]["limits"]["seconds"] > 0
    found = scores_of_all(items, "programs", model, tokenizer)
    assert [found[i] for i in range(12)] == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0] + [1.0] * 6
    assert not Path("/tmp/evomerge-left").exists()


def test_a_task_that_runs_programs_by_itself(
    write_task: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "Limits", lambda: Limits(seconds=1.0))
    tail = (
        "process_results: !function own.results\n"
        "metric_list: [{metric: right, aggregation: mean, higher_is_better: true}]\n"
    )
    raising = "    return 1 / 0\n"
    folder = code_task(write_task, [GOOD, WRONG, ENDLESS, "    exit()\n", *[GOOD] * 7, raising], OWN, tail)
    items = prepared(folder, "programs")
    scorer = items.scorer(model, tokenizer, batch_size=4)
    assert scorer.score({"programs": [0, 1, 2, 3, 4]})["programs"].values == (1.0, 0.0, 0.0, 0.0, 1.0)
    with pytest.raises(EvomergeError, match=r"item 11: the task could not score the answer: ZeroDivisionError"):
        scorer.score({"programs": [4, 11]})


def test_a_python_class(tmp_path: Path, model: Any, tokenizer: Any) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "task.py").write_text(CLASS)
    (folder / "contains.yaml").write_text("task: contains\nclass: !function task.Contains\n")
    with pytest.raises(InvalidFile, match=r"is written as a Python class; .* --allow-code contains"):
        prepare_tasks([TaskRequest(task="contains")], task_path=folder, pools=ALL, seed=0)
    items = prepared(folder, "contains")
    assert (items.objectives[0].metric, items.facts["contains"]["aggregation"]) == ("contains", "mean")
    found = scores_of_all(items, "contains", model, tokenizer)
    assert {found[i] for i in range(0, 12, 3)} == {1.0} and sum(found.values()) < 12
