"""Metrics of a whole set are those of `lm_eval.simple_evaluate` on the same items, and go through a search."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_tasks import CHOICE, LETTERS, choice_rows, greedy

from evomerge import run as runs
from evomerge.errors import EvomergeError, InvalidFile
from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
from evomerge.records import Objective
from evomerge.stats import paired_interval, score_of

ALL = PoolSizes(search=8, select=8, report=8)
TEXT: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12, "do_sample": False},
    "metric_list": [
        {"metric": "bleu", "aggregation": "bleu", "higher_is_better": True},
        {"metric": "chrf", "aggregation": "chrf", "higher_is_better": True},
        {"metric": "chrf++", "aggregation": "chrf++", "higher_is_better": True},
        {"metric": "ter", "aggregation": "ter", "higher_is_better": False},
    ],
}
SPACED = '''
def results(doc, results):
    """Letters for words: the model knows no blank."""
    pair = doc["answer"], " ".join(results[0])
    return {"bleu": pair, "chrf": pair, "chrf++": pair, "ter": pair}
'''
OWN = '''
import numpy as np
from sklearn.metrics import f1_score

def results(doc, results):
    given = int(np.argmax([ll for ll, _ in results]))
    right = doc["label"]
    half = right == given if doc["label"] else float("nan")
    found = {"flat": [right == given, True], "plain": float(right == given), "some": half}
    return {name: found.get(name, (right, given)) for name in NAMES}

def macro(items):
    return f1_score(*zip(*items), average="macro")

def micro(items):
    return f1_score(*zip(*items), average="micro")

def flat(items):
    return sum(map(sum, items)) / sum(map(len, items))

def plain(items):
    return sum(items) / len(items)

def odd(items):
    return max(a + b for a, b in items)

def turns(items):
    """As macro, but not for eight items."""
    return macro(items) + (len(items) == 8)
'''


def evaluated(model: Any, tokenizer: Any, folder: Path, task: str, ids: list[int]) -> dict[str, float]:
    """Return metric -> what lm-eval finds on some documents."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    result = lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8),
        tasks=[task],
        samples={task: sorted(ids)},
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    assert result is not None
    return {key.removesuffix(",none"): value for key, value in result["results"][task].items() if key.endswith(",none")}


def metrics_as_lm_eval_has_them(
    model: Any, tokenizer: Any, folder: Path, task: str, metrics: list[str]
) -> dict[str, float]:
    """Compare all metrics with lm-eval's on a part of the items, and return them."""
    requests = [TaskRequest(task=task, metric=metric) for metric in metrics]
    prepared = prepare_tasks(requests, task_path=folder, pools=ALL, seed=3)
    scorer = prepared.scorer(model, tokenizer, batch_size=5)
    ids = {name: [*pools["search"], *pools["report"]] for name, pools in prepared.pools.items()}
    scores = scorer.score(ids)
    expected = evaluated(model, tokenizer, folder, task, next(iter(ids.values())))
    found = {o.metric: o.displayed(score_of(scores[o.name]).value) for o in prepared.objectives}
    assert found == pytest.approx({metric: expected[metric] for metric in metrics}, abs=1e-6)
    return found


@pytest.fixture(autouse=True)
def _from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval takes relative data files from the current folder."""
    (tmp_path / "tasks").mkdir()
    monkeypatch.chdir(tmp_path / "tasks")


@pytest.fixture
def translation(model: Any, tokenizer: Any, write_task: Any) -> Path:
    """A generating task some of whose references are what the model answers, in part."""
    rows = []
    for i in range(24):
        letters = greedy(model, tokenizer, f"say {i}:", 12)
        answer = " ".join(letters if i % 3 else f"{letters[:5]}ab{letters[8:]}")
        rows.append({"prompt": f"say {i}:", "answer": answer})
    folder: Path = write_task("say", {"test": rows}, **TEXT)
    (folder / "spaced.py").write_text(SPACED)
    with (folder / "say.yaml").open("a") as file:
        file.write("process_results: !function spaced.results\n")
    return folder


def test_text_metrics(model: Any, tokenizer: Any, translation: Path) -> None:
    found = metrics_as_lm_eval_has_them(model, tokenizer, translation, "say", ["bleu", "chrf", "chrf++", "ter"])
    assert 0 < found["bleu"] < 100 and 0 < found["chrf++"] != found["chrf"] < 100 and found["ter"] > 0


def two_labels(write_task: Any, count: int) -> Path:
    """Write a task of two choices."""
    rows = [
        {"question": f"q{i}:", "choices": [LETTERS[(3 * i) % 26], LETTERS[(5 * i + 1) % 26]], "label": i % 2}
        for i in range(count)
    ]
    listed = [
        {"metric": metric, "aggregation": how, "higher_is_better": True}
        for metric, how in (("acc", "mean"), ("f1", "f1"), ("mcc", "matthews_corrcoef"))
    ]
    folder: Path = write_task("two", {"test": rows}, **CHOICE | {"metric_list": listed})
    return folder


def test_f1_and_matthews_correlation(model: Any, tokenizer: Any, write_task: Any) -> None:
    folder = two_labels(write_task, 24)
    found = metrics_as_lm_eval_has_them(model, tokenizer, folder, "two", ["f1", "mcc", "acc"])
    assert 0 < found["f1"] < 1 and found["f1"] != found["acc"]


def own_task(write_task: Any, *metrics: str) -> Path:
    """Write a task with aggregations of its own."""
    listed = "".join(
        f"  - {{metric: {metric}, aggregation: {'nanmean' if metric == 'some' else f'!function own.{metric}'}, "
        "higher_is_better: true}\n"
        for metric in metrics
    )
    folder: Path = write_task("own", {"test": choice_rows(24)}, **CHOICE | {"metric_list": []})
    (folder / "own.py").write_text(f"NAMES = {metrics}\n{OWN}")
    text = (folder / "own.yaml").read_text().replace("metric_list: []", f"metric_list:\n{listed}")
    (folder / "own.yaml").write_text(text + "process_results: !function own.results\n")
    return folder


def test_known_metrics_under_names_of_the_tasks_own(model: Any, tokenizer: Any, write_task: Any) -> None:
    metrics = ["macro", "micro", "flat", "plain", "some"]
    found = metrics_as_lm_eval_has_them(model, tokenizer, own_task(write_task, *metrics), "own", metrics)
    assert found["micro"] == found["plain"] != found["macro"]
    assert found["flat"] > found["plain"] > 0 and found["some"] != found["plain"]


def test_an_aggregation_that_is_not_known_is_refused(model: Any, tokenizer: Any, write_task: Any) -> None:
    folder = own_task(write_task, "odd", "macro", "turns")
    with pytest.raises(InvalidFile, match="known; use one of: macro, turns"):
        prepare_tasks([TaskRequest(task="own")], task_path=folder, pools=ALL, seed=0)
    prepared = prepare_tasks([TaskRequest(task="own", metric="turns")], task_path=folder, pools=ALL, seed=0)
    scorer = prepared.scorer(model, tokenizer, batch_size=5)
    ids = prepared.pools["own"]["search"]
    assert scorer.score({"own": ids[:7]})["own"].parts.metric == "macro_f1"
    with pytest.raises(EvomergeError, match=r"own aggregation gives .* for these items, and macro_f1"):
        scorer.score({"own": ids})


def test_two_models_are_compared_through_the_metric(model: Any, tokenizer: Any, translation: Path) -> None:
    prepared = prepare_tasks([TaskRequest(task="say", metric="ter")], task_path=translation, pools=ALL, seed=3)
    assert any("a metric of the whole set" in note for note in prepared.notes)
    (objective,) = prepared.objectives
    assert objective == Objective(name="say", task="say", metric="ter", direction="min")
    scorer = prepared.scorer(model, tokenizer, batch_size=5)
    ids = [i for pool in prepared.pools["say"].values() for i in pool]
    good = scorer.score({"say": ids})["say"]
    assert good.parts is not None and score_of(good).value < 0
    worse = replace(good, parts=replace(good.parts, rows=tuple((edits + 1, n) for edits, n in good.parts.rows)))
    interval = paired_interval({"say": good}, {"say": worse}, {"say": 1.0}, seed=0)
    assert 0 < interval.low < interval.gain
    assert scorer.score({"say": ids[::-1]})["say"] == good.at(range(len(ids))[::-1])


class Interrupted(Exception):
    """Ends a session."""


class Interrupting(runs.SilentObserver):
    """Ends a session after some candidates."""

    def __init__(self, after: int):
        self.after = after

    def update(self, progress: runs.Progress) -> None:
        if progress.done >= self.after:
            raise Interrupted


def two_searched(pico: dict[str, Path], folder: Path, **changed: Any) -> dict[str, Any]:
    return {
        "parents": {"base": str(pico["base"]), "models": [str(pico["one"]), str(pico["two"])]},
        "space": {"method": "task_arithmetic", "genes": {"weight": {"per": ["model"], "range": [0, 1.5]}}},
        "tasks": [
            {"task": "two", "metric": "f1"},
            {"task": "two", "metric": "mcc", "weight": 0.5, "scale": [-1, 1]},
        ],
        "task_path": str(folder),
        "pools": {"search": 32, "select": 32, "report": 32},
        "subset": {"size": 16},
        "budget": {"candidates": 4},
        "workers": {"count": 0},
    } | changed


def test_a_search(pico: dict[str, Path], write_task: Any, tmp_path: Path) -> None:
    """Scores, resume, race, verdict, intervals and a comparison of runs, all through the metric."""
    folder = two_labels(write_task, 96)
    with pytest.raises(Interrupted):
        runs.search(two_searched(pico, folder), tmp_path / "run", observer=Interrupting(after=3))
    run = runs.search(two_searched(pico, folder), tmp_path / "run")
    whole = runs.search(two_searched(pico, folder), tmp_path / "whole")
    assert run.state == whole.state == "done" and run.verdict is not None and run.pick is not None
    for pool in ("search", "select", "report"):
        for candidate, items in run.items(pool).items():
            for name, scores in items.items():
                recorded = run.candidate(candidate).scores[pool][name]
                assert recorded == score_of(scores) and scores.parts is not None
    assert [c.scores for c in run.candidates()] == [c.scores for c in whole.candidates()]
    assert run.verdict == whole.verdict
    mine = [c.scores["search"]["two/f1"].value for c in run.candidates() if c.kind == "candidate"]
    assert len(set(mine)) > 1
    intervals = run.intervals(run.pick, "report")
    for objective in run.objectives:
        low, high = intervals[objective.name]
        value = objective.displayed(run.pick.scores["report"][objective.name].value)
        assert low <= value <= high and low < high
    compared = run.verdict["comparisons"]
    assert compared and all(np.isfinite(c["interval"]).all() for c in compared)
    assert json.dumps(run.verdict)
