"""Which items land in which pool."""

import pytest
from local_tasks import CHOICE, choice_rows

from evomerge.errors import InvalidFile
from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks

SMALL = PoolSizes(search=6, select=5, report=4)


def prepared_pools(folder, pools=SMALL, seed=0, name="mc", **options):
    return prepare_tasks([TaskRequest(task=name, metric="acc")], task_path=folder, pools=pools, seed=seed, **options)


def assert_disjoint(pools, sizes=SMALL):
    everything = [i for ids in pools.values() for i in ids]
    assert len(set(everything)) == len(everything)
    assert [len(ids) for ids in pools.values()] == [sizes.search, sizes.select, sizes.report]


def test_search_and_select_from_validation_report_from_test(write_task):
    rows = {"train": choice_rows(30), "validation": choice_rows(20, 100), "test": choice_rows(20, 200)}
    prepared = prepared_pools(write_task("mc", rows, **CHOICE))
    pools = prepared.pools["mc"]
    assert_disjoint(pools)
    assert max(*pools["search"], *pools["select"]) < 20 <= min(pools["report"])
    assert prepared.facts["mc"]["splits"] == {"search": "validation", "select": "validation", "report": "test"}
    assert prepared.notes == ()


def test_training_split_where_validation_is_the_final_one(write_task):
    folder = write_task("mc", {"train": choice_rows(20), "validation": choice_rows(20, 100)}, **CHOICE)
    assert prepared_pools(folder).facts["mc"]["splits"] == {
        "search": "train",
        "select": "train",
        "report": "validation",
    }


def test_a_single_split_is_divided_and_the_notes_say_so(write_task):
    prepared = prepared_pools(write_task("mc", {"test": choice_rows(15)}, **CHOICE))
    assert_disjoint(prepared.pools["mc"])
    assert prepared.notes == ("mc has a single split (test), divided among the pools",)


def test_test_split_for_search_only_when_allowed(write_task):
    folder = write_task("mc", {"validation": choice_rows(3), "test": choice_rows(20, 100)}, **CHOICE)
    with pytest.raises(
        InvalidFile, match=r"need 11 items \(search 6 \+ select 5\) of its validation split, which has 3"
    ):
        prepared_pools(folder)
    prepared = prepared_pools(folder, allow_test_split=["mc"])
    assert_disjoint(prepared.pools["mc"])
    assert set(prepared.facts["mc"]["splits"].values()) == {"test"}
    assert "allow_test_split" in prepared.notes[0]


def test_same_seed_same_pools_and_larger_pools_extend_smaller_ones(write_task):
    folder = write_task("mc", {"validation": choice_rows(40), "test": choice_rows(40, 100)}, **CHOICE)
    first, again = prepared_pools(folder), prepared_pools(folder)
    assert (first.pools, first.facts) == (again.pools, again.facts)
    assert prepared_pools(folder, seed=1).pools != first.pools
    larger = prepared_pools(folder, PoolSizes(search=12, select=11, report=9)).pools["mc"]
    for pool, ids in first.pools["mc"].items():
        assert larger[pool][: len(ids)] == ids


def test_a_repeated_document_is_in_one_pool_only(write_task):
    same = choice_rows(5, 100)
    rows = {"validation": choice_rows(11) + choice_rows(3) + same, "test": same + same}
    prepared = prepared_pools(write_task("mc", rows, **CHOICE))
    pools = prepared.pools["mc"]
    assert prepared.facts["mc"]["left_out"] == 3 + 5 + 5
    assert set(pools["search"]) | set(pools["select"]) == set(range(11))
    assert set(pools["report"]) < set(range(19, 24))


def test_few_shot_documents_are_in_no_pool(write_task):
    rows = {"validation": choice_rows(24), "test": choice_rows(10, 100)}
    folder = write_task("mc", rows, **CHOICE, fewshot_split="validation", num_fewshot=2)
    prepared = prepared_pools(folder, PoolSizes(search=8, select=8, report=8))
    assert prepared.notes == ("mc takes its few-shot examples from 3 documents of validation that are in no pool",)
    task = prepared.tasks["mc"].items.sources["mc"]
    asked = {item.doc["question"] for item in task.items.values()}
    for item in task.items.values():
        *examples, question = item.requests[0].arguments[0].split("\n\n")
        assert len(examples) == 2 and question == item.doc["question"]
        assert not {example.rsplit(" ", 1)[0] for example in examples} & asked
    with pytest.raises(InvalidFile, match="has 21 distinct"):
        prepared_pools(folder, PoolSizes(search=11, select=11, report=8))


def test_first_n_examples_stay_the_first_n(write_task):
    rows = {"validation": choice_rows(20), "test": choice_rows(10, 100)}
    first = {"sampler": "first_n", "split": "validation"}
    folder = write_task("mc", rows, **CHOICE, fewshot_config=first, num_fewshot=3)
    prepared = prepared_pools(folder)
    assert not {0, 1, 2} & {i for ids in prepared.pools["mc"].values() for i in ids}
    item = prepared.tasks["mc"].items.sources["mc"].items[prepared.pools["mc"]["report"][0]]
    assert item.requests[0].arguments[0].startswith("q0: a ")


def test_two_metrics_of_a_task_share_items_and_are_named_apart(write_task):
    folder = write_task("mc", {"test": choice_rows(15)}, **CHOICE)
    requests = [TaskRequest(task="mc"), TaskRequest(task="mc", metric="acc_norm", weight=2, floor=0.5, scale=(0, 1))]
    prepared = prepare_tasks(requests, task_path=folder, pools=SMALL, seed=0)
    assert [one.name for one in prepared.objectives] == ["mc/acc", "mc/acc_norm"]
    assert prepared.pools["mc/acc"] == prepared.pools["mc/acc_norm"]
    assert (prepared.objectives[1].weight, prepared.objectives[1].floor) == (2, 0.5)
    assert "mc is scored by acc, its first metric (it also has: acc_norm)" in prepared.notes


def test_pools_that_are_too_large_are_refused_with_sizes_that_fit(write_task):
    folder = write_task("mc", {"test": choice_rows(40)}, **CHOICE)
    with pytest.raises(InvalidFile, match=r"such as \{search: 10, select: 10, report: 20\}"):
        prepared_pools(folder, PoolSizes(search=256, select=256, report=512))
    assert_disjoint(prepared_pools(folder, fit := PoolSizes(search=10, select=10, report=20)).pools["mc"], fit)
    with pytest.raises(InvalidFile, match=r"ask for smaller pools$"):  # none fit
        prepared_pools(write_task("two", {"test": choice_rows(2)}, **CHOICE), name="two")
