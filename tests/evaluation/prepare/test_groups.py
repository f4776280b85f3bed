"""Groups and tags as one objective: the score is lm-eval's own aggregate, and pools are drawn from the tasks fairly."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_tasks import CHOICE, choice_rows

from evomerge.errors import InvalidFile
from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
from evomerge.stats import mean_and_stderr

SIZES = {"one": 40, "two": 24, "three": 16}
NORM = [{"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}]


@pytest.fixture
def folder(write_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tasks of one split each and different sizes; "three" has no acc."""
    (tmp_path / "tasks").mkdir()
    monkeypatch.chdir(tmp_path / "tasks")
    for start, (name, size) in enumerate(SIZES.items()):
        rows = {"test": choice_rows(size, 1000 * start)}
        extra = {"metric_list": NORM} if name == "three" else {}
        write_task(name, rows, **CHOICE | extra | {"tag": ["tagged"]})
    return tmp_path / "tasks"


def write_group(folder: Path, name: str, **config: Any) -> None:
    (folder / f"{name}_group.yaml").write_text(yaml.safe_dump({"group": name, **config}), encoding="utf-8")


def lm_eval_score(model: Any, tokenizer: Any, folder: Path, prepared: Any, pool: str, key: str, name: str) -> float:
    """Return what `simple_evaluate` reports for a group on the documents of one pool."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    documents = {}
    items = prepared.tasks[name].items
    for member in items.ranges:
        source = items.sources[member.source]
        numbers = sorted(i - member.numbers.start for i in prepared.pools[name][pool] if i in member.numbers)
        start = prepared.facts[name]["tasks"][source.name]["numbering"]["test"]
        documents[source.name] = [i - start for i in numbers]
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    result = lm_eval.simple_evaluate(lm, tasks=[name], task_manager=manager, samples=documents, bootstrap_iters=0)
    assert result is not None
    return result["results"][name][key]


@pytest.mark.parametrize("by_size", [True, False])
def test_a_nested_group_scores_as_lm_eval_does(folder, model, tokenizer, by_size):
    write_group(folder, "inner", task=["two", {"task": "three", "doc_to_text": "ask {{question}}"}])
    aggregates = [{"metric": "acc", "weight_by_size": by_size}, {"metric": "acc_norm", "weight_by_size": by_size}]
    write_group(folder, "outer", task=["one", "inner"], aggregate_metric_list=aggregates, metadata={"version": 7})
    request = TaskRequest(task="outer", metric="acc_norm")
    pools = PoolSizes(search=20, select=15, report=30)
    prepared = prepare_tasks([request], task_path=folder, pools=pools, seed=1)
    assert prepared.facts["outer"]["version"] == 7
    third = next(source for source in prepared.tasks["outer"].items.sources.values() if source.name == "three")
    assert all(item.requests[0].arguments[0].startswith("ask q") for item in third.items.values())
    scorer = prepared.scorer(model, tokenizer, batch_size=8)
    for pool in ("search", "select", "report"):
        found = scorer.score({"outer": prepared.pools["outer"][pool]})["outer"]
        assert (found.weights is None) == by_size
        expected = lm_eval_score(model, tokenizer, folder, prepared, pool, "acc_norm,none", "outer")
        assert mean_and_stderr(found.values, found.weights).value == pytest.approx(expected, abs=1e-12)
    items = prepared.facts["outer"]["items"]
    wanted = {"one": 10, "two": 6, "three": 4} if by_size else {"one": 7, "two": 7, "three": 6}
    assert {name: counts["search"] for name, counts in items.items()} == wanted


def test_pools_are_disjoint_and_their_beginnings_fair(folder):
    write_group(folder, "all", task=["one", "two", "three"], aggregate_metric_list={"metric": "acc_norm"})
    prepared = prepare_tasks(
        [TaskRequest(task="all")], task_path=folder, pools=PoolSizes(search=20, select=20, report=None), seed=0
    )
    pools = prepared.pools["all"]
    together = [i for pool in pools.values() for i in pool]
    assert len(set(together)) == len(together) == sum(SIZES.values())
    first = prepared.tasks["all"].items.ranges[0].numbers
    assert sum(i in first for i in pools["search"][:10]) == 5  # half of all documents are of "one"
    again = prepare_tasks(
        [TaskRequest(task="all")], task_path=folder, pools=PoolSizes(search=20, select=20, report=None), seed=0
    )
    assert again.pools == prepared.pools and again.facts == prepared.facts


def test_tags_and_plain_groups_count_every_item_the_same(folder, model, tokenizer):
    write_group(folder, "plain", task=["one", "two"])
    sizes = PoolSizes(search=9, select=4, report=9)
    prepared = prepare_tasks([TaskRequest(task="plain")], task_path=folder, pools=sizes, seed=0)
    assert any("no score of its own" in note for note in prepared.notes)
    tagged = prepare_tasks([TaskRequest(task="tagged", metric="acc")], task_path=folder, pools=sizes, seed=0)
    assert list(tagged.facts["tagged"]["tasks"]) == ["one", "two"]
    assert any("scored without 1 tasks that have no acc (three)" in note for note in tagged.notes)
    scores = tagged.scorer(model, tokenizer, batch_size=8).score({"tagged": tagged.pools["tagged"]["search"]})
    assert scores["tagged"].weights is None and len(scores["tagged"].soft) == 9


def test_two_metrics_of_a_group_share_items_and_passes(folder, model, tokenizer, monkeypatch):
    write_group(folder, "pair", task=["one", "two"], aggregate_metric_list=[{"metric": m} for m in ("acc", "acc_norm")])
    requests = [TaskRequest(task="pair", metric=metric) for metric in ("acc", "acc_norm")]
    sizes = PoolSizes(search=9, select=4, report=9)
    prepared = prepare_tasks(requests, task_path=folder, pools=sizes, seed=0)
    first, second = prepared.tasks
    assert prepared.tasks[first].items.sources.keys() == prepared.tasks[second].items.sources.keys()
    copies = pickle.loads(pickle.dumps(prepared)).tasks
    for key, source in copies[first].items.sources.items():
        assert copies[second].items.sources[key] is source  # the items travel once
    assert prepared.pools[first] == prepared.pools[second]
    scorer = prepared.scorer(model, tokenizer, batch_size=8)
    both = scorer.score({name: prepared.pools[name]["search"] for name in (first, second)})
    alone = scorer.score({first: prepared.pools[first]["search"]})
    assert both[first] == alone[first]


@pytest.mark.parametrize(
    ("config", "request_", "sizes", "text"),
    [
        ({"task": ["one", "nine"]}, {}, (4, 4, 4), 'its task "nine" does not exist'),
        ({"task": ["some"]}, {}, (4, 4, 4), '"some" holds itself'),
        ({"task": ["one", "two"]}, {"metric": "f1"}, (4, 4, 4), 'averages no "f1" .it averages: acc, acc_norm'),
        ({"task": ["one", "two"]}, {}, (40, 20, 20), "the report pool needs 20 items, its tasks have 4 left"),
        (
            {"task": ["one", "two"], "aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}]},
            {},
            (1, 4, 4),
            "a search pool of 1 leaves some of them out",
        ),
    ],
)
def test_refusals(folder, config, request_, sizes, text):
    write_group(folder, "some", **config)
    pools = PoolSizes(search=sizes[0], select=sizes[1], report=sizes[2])
    with pytest.raises(InvalidFile, match=text):
        prepare_tasks([TaskRequest(task="some", **request_)], task_path=folder, pools=pools, seed=0)


def test_a_task_may_not_be_in_two_objectives(folder):
    write_group(folder, "some", task=["one", "two"])
    pools = PoolSizes(search=2, select=2, report=2)
    with pytest.raises(InvalidFile, match='its task one is used by "one", too'):
        prepare_tasks([TaskRequest(task="one"), TaskRequest(task="some")], task_path=folder, pools=pools, seed=0)


def test_num_fewshot_of_one_task(folder, write_task):
    pools = PoolSizes(search=2, select=2, report=2)
    write_task("three", {"train": choice_rows(12, 900), "test": choice_rows(12)}, **CHOICE | {"metric_list": NORM})
    requests = [TaskRequest(task="three", num_fewshot=3), TaskRequest(task="one")]
    prepared = prepare_tasks(requests, task_path=folder, pools=pools, seed=0)
    assert [prepared.facts[name]["num_fewshot"] for name in ("three", "one")] == [3, 0]
    twice = [TaskRequest(task="three", metric="acc_norm", num_fewshot=n) for n in (3, 2)]
    with pytest.raises(InvalidFile, match=r"named twice with different num_fewshot \(3 and 2\)"):
        prepare_tasks(twice, task_path=folder, pools=pools, seed=0)
