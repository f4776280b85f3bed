"""Scorers that are plain Python functions."""

import json
import pickle
import subprocess
import sys

import pytest

from evomerge.errors import EvomergeError, InvalidFile
from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks

SMALL = PoolSizes(search=4, select=3, report=2)

CODE = """
def length(model, tokenizer, items):
    return [len(item["text"]) for item in items]

def short(model, tokenizer, items):
    return [1.0]

def broken(model, tokenizer, items):
    return [float("nan")] * len(items)

def raising(model, tokenizer, items):
    raise KeyError("answer")

def greedy(model, tokenizer, items):
    items[0]["text"] = "changed"
    import torch
    tokens = [torch.tensor([tokenizer.encode(item["text"])]) for item in items]
    return [bool(model(one).logits.isfinite().all()) for one in tokens]
"""


@pytest.fixture
def request_for(tmp_path):
    """Return a request for one of the functions above."""
    (tmp_path / "own.py").write_text(CODE)
    rows = [{"text": "x" * i} for i in range(10)] + [{"text": "x"}]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(function, **changes):
        return TaskRequest(scorer=f"{tmp_path / 'own.py'}:{function}", items=tmp_path / "items.jsonl", **changes)

    return make


def score(request, model, tokenizer, pool="search"):
    prepared = pickle.loads(pickle.dumps(prepare_tasks([request], task_path=None, pools=SMALL, seed=0)))
    name = prepared.objectives[0].name
    return prepared.scorer(model, tokenizer, batch_size=4).score({name: prepared.pools[name][pool]})[name]


def test_values_in_the_order_of_the_items(request_for, model, tokenizer):
    scores = score(request_for("length"), model, tokenizer)
    assert scores.values == tuple(float(i) for i in scores.ids)


def test_scorers_alone_need_no_lm_eval(request_for, tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks\n"
        "request = TaskRequest(scorer=sys.argv[1], items=Path(sys.argv[2]))\n"
        "prepare_tasks([request], task_path=None, pools=PoolSizes(search=4, select=3, report=2), seed=0)\n"
        "assert 'lm_eval' not in sys.modules\n"
    )
    request = request_for("length")
    subprocess.run([sys.executable, "-c", code, request.scorer, str(request.items)], check=True)


def test_lower_is_better(request_for, model, tokenizer):
    request = request_for("length", direction="min")
    prepared = prepare_tasks([request], task_path=None, pools=SMALL, seed=0)
    assert prepared.objectives[0].direction == "min"
    scores = score(request, model, tokenizer)
    assert scores.values == tuple(-float(i) for i in scores.ids)


def test_the_function_sees_the_model_and_cannot_change_its_items(request_for, model, tokenizer):
    prepared = prepare_tasks([request_for("greedy")], task_path=None, pools=SMALL, seed=0)
    scorer, ids = prepared.scorer(model, tokenizer, batch_size=4), prepared.pools["greedy"]["search"]
    ids = [i for i in ids if i]  # an empty text has no logits
    assert scorer.score({"greedy": ids})["greedy"].values == (1.0,) * len(ids)
    assert all(item["text"] != "changed" for item in prepared.tasks["greedy"].items.items.values())


def test_pools_are_disjoint_and_repeats_are_dropped(request_for):
    prepared = prepare_tasks([request_for("length")], task_path=None, pools=SMALL, seed=0)
    ids = [i for pool in prepared.pools["length"].values() for i in pool]
    assert len(set(ids)) == 9 and 10 not in ids
    assert prepared.facts["length"]["left_out"] == 1
    assert prepared.notes == ("length has a single set of items, divided among the pools",)


def test_items_name_the_cluster_that_they_belong_to(request_for, tmp_path):
    rows = [{"text": "x" * i, "cluster": i // 2} for i in range(8)] + [{"text": "alone", "cluster": "z"}, {"text": "y"}]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pools = PoolSizes(search=4, select=3, report=3)
    prepared = prepare_tasks([request_for("length")], task_path=None, pools=pools, seed=0)
    clusters = prepared.clusters["length"]
    assert set(clusters) == set(range(8)), "who shares its cluster with nobody is independent"
    assert all((clusters[a] == clusters[b]) == (a // 2 == b // 2) for a in range(8) for b in range(8))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("short", r"own.py:short returned 1 values for 4 items"),
        ("broken", r"own.py:broken returned nan for item \d+; expected a finite number"),
        ("raising", r"own.py:raising raised KeyError: 'answer'"),
    ],
)
def test_what_a_function_does_wrong_names_file_and_function(request_for, model, tokenizer, function, text):
    with pytest.raises(EvomergeError, match=text):
        score(request_for(function), model, tokenizer)


def test_every_problem_at_once(request_for, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"text": 1}\n[1]\n')
    (tmp_path / "worse.py").write_text("1 / 0\n")
    requests = [
        request_for("lenght", where="a"),
        TaskRequest(scorer="own.py", items=tmp_path / "items.jsonl", where="b"),
        TaskRequest(scorer=f"{tmp_path / 'own.py'}:length", items=tmp_path / "bad.jsonl", where="c"),
        TaskRequest(scorer=f"{tmp_path / 'own.py'}:length", where="d"),
        TaskRequest(scorer=f"{tmp_path / 'worse.py'}:length", items=tmp_path / "items.jsonl", where="e"),
    ]
    with pytest.raises(InvalidFile) as caught:
        prepare_tasks(requests, task_path=None, pools=SMALL, seed=0)
    texts = [problem.text for problem in caught.value.problems]
    assert [problem.where[0] for problem in caught.value.problems] == list("abcde")
    for text, expected in zip(
        texts,
        ('Did you mean "length"?', '"file.py:function"', "line 2: is a list", "needs items", "ZeroDivisionError"),
        strict=True,
    ):
        assert expected in text
    with pytest.raises(InvalidFile, match="need 30 items"):
        prepare_tasks([request_for("length")], task_path=None, pools=PoolSizes(search=10, select=10, report=10), seed=0)
