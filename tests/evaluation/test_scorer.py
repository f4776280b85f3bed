"""Scoring a live model: determinism, broken models, global random numbers, generation limits."""

import gc
import itertools
import random
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from local_tasks import CHOICE, choice_rows, greedy

from evomerge.errors import DegenerateModel, EvomergeError, InvalidInput, MemoryFull
from evomerge.evaluation import (
    PoolSizes,
    TaskRequest,
    check_logits,
    prepare_tasks,
)

SMALL = PoolSizes(search=8, select=8, report=8)
GENERATE = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[label]}}",
    "generation_kwargs": {"until": ["a"], "max_gen_toks": 6},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def bound(folder, model, tokenizer, *names, batch_size=5, **options):
    """Return (prepared, scorer) for the first metric of some tasks."""
    requests = [TaskRequest(task=name) for name in names]
    prepared = prepare_tasks(requests, task_path=folder, pools=SMALL, seed=0, lm_eval_options=options)
    return prepared, prepared.scorer(model, tokenizer, batch_size=batch_size)


@pytest.fixture
def folder(write_task):
    """Three tasks: multiple choice, the same with the answer always first, and generation."""
    write_task("zero", {"test": choice_rows(24, label=0)}, **CHOICE)
    write_task("gen", {"test": choice_rows(24)}, **GENERATE)
    return write_task("mc", {"test": choice_rows(24)}, **CHOICE)


def test_scoring_again_gives_the_same_bits_in_any_order(folder, model, tokenizer):
    prepared, scorer = bound(folder, model, tokenizer, "mc", "gen")
    items = {name: prepared.pools[name]["search"] for name in ("mc", "gen")}
    first = scorer.score(items)
    assert scorer.score(items) == first
    backwards = scorer.score({name: items[name][::-1] for name in ("gen", "mc")})
    for name in items:
        assert backwards[name].ids == first[name].ids[::-1]
        assert backwards[name].values == first[name].values[::-1]
    assert backwards["mc"].soft == first["mc"].soft[::-1]
    assert scorer.score({"mc": items["mc"]})["mc"] == first["mc"]  # whatever else is scored


def test_the_tokens_that_go_through_the_model_are_counted(folder, model, tokenizer):
    prepared, scorer = bound(folder, model, tokenizer, "mc", "gen")
    items = {name: prepared.pools[name]["search"] for name in ("mc", "gen")}
    seen = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    scorer.score(items)
    handle.remove()
    assert scorer.tokens == sum(seen) > 0
    scorer.score(items)
    assert scorer.tokens == sum(seen), "the count is that of one call"


def test_new_weights_are_seen_and_old_ones_forgotten(folder, model, tokenizer):
    prepared, scorer = bound(folder, model, tokenizer, "mc")
    items = {"mc": prepared.pools["mc"]["search"]}
    first = scorer.score(items)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert scorer.score(items) != first
    model.load_state_dict(weights)
    assert scorer.score(items) == first


def test_batch_size_does_not_change_results_beyond_rounding(folder, model, tokenizer):
    prepared, scorer = bound(folder, model, tokenizer, "mc", batch_size=1)
    ids = prepared.pools["mc"]["report"]
    one = scorer.score({"mc": ids})["mc"]
    many = prepared.scorer(model, tokenizer, batch_size=64).score({"mc": ids})["mc"]
    assert one.values == many.values
    assert one.soft == pytest.approx(many.soft, abs=1e-5)


def test_a_model_without_logits_to_keep(folder, model, tokenizer):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.config = model, model.config
            self.device = model.device

        def forward(self, input_ids):
            return self.inner(input_ids)

        def tie_weights(self):
            pass

        def get_input_embeddings(self):
            return self.inner.get_input_embeddings()

    prepared, scorer = bound(folder, model, tokenizer, "mc")
    items = {"mc": prepared.pools["mc"]["search"]}
    expected = scorer.score(items)["mc"]
    found = prepared.scorer(Plain(), tokenizer, batch_size=5).score(items)["mc"]
    assert found.values == expected.values
    assert found.soft == pytest.approx(expected.soft, abs=1e-5)


@pytest.mark.parametrize("where", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_nan_model_is_refused_where_it_would_score_one(folder, model, tokenizer, where):
    prepared, scorer = bound(folder, model, tokenizer, "zero", "gen")
    with torch.no_grad():
        model.get_parameter(where)[0] = float("nan")
    with pytest.raises(DegenerateModel, match=r"zero, item \d+: a log-likelihood is nan"):
        scorer.score({"zero": prepared.pools["zero"]["search"]})
    with pytest.raises(DegenerateModel, match="not finite"):
        scorer.score({"gen": prepared.pools["gen"]["search"]})


def test_a_constant_model_is_refused_where_it_would_score_one(folder, model, tokenizer):
    prepared, scorer = bound(folder, model, tokenizer, "zero", "gen")
    scorer.score({"gen": prepared.pools["gen"]["search"]})
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with pytest.raises(DegenerateModel, match="zero: constant"):
        scorer.score({"zero": prepared.pools["zero"]["search"]})
    with pytest.raises(DegenerateModel, match="constant"):
        scorer.score({"gen": prepared.pools["gen"]["search"]})
    with pytest.raises(DegenerateModel, match="constant"):
        check_logits(model, [3, 4])


def test_global_random_numbers_are_left_alone(folder, model, tokenizer):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    prepared, scorer = bound(folder, model, tokenizer, "mc", "gen")
    scorer.score({name: prepared.pools[name]["search"] for name in ("mc", "gen")})
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states


def test_sampling_tasks_repeat_exactly(write_task, model, tokenizer):
    sampled = {"until": ["\n"], "max_gen_toks": 5, "do_sample": True, "temperature": 2.0}
    folder = write_task("gen", {"test": choice_rows(24)}, **GENERATE | {"generation_kwargs": sampled})
    prepared, scorer = bound(folder, model, tokenizer, "gen")
    items = {"gen": prepared.pools["gen"]["search"]}
    assert scorer.score(items) == scorer.score(items)


def test_the_length_of_answers_is_capped(folder, model, tokenizer):
    prepared, scorer = bound(folder, model, tokenizer, "gen", max_gen_toks=2)
    assert prepared.facts["gen"]["generation"]["max_gen_toks"] == 2
    scorer.score({"gen": prepared.pools["gen"]["search"]})  # short answers may all reach it
    prepared, _ = bound(folder, model, tokenizer, "gen", max_gen_toks=200)
    assert prepared.facts["gen"]["generation"]["max_gen_toks"] == 6  # a cap, not a new length


def test_a_model_that_does_not_stop_is_degenerate(write_task, model, tokenizer):
    endless = {"until": ["never"], "max_gen_toks": 40}
    folder = write_task("gen", {"test": choice_rows(24)}, **GENERATE | {"generation_kwargs": endless})
    prepared, scorer = bound(folder, model, tokenizer, "gen")
    with pytest.raises(DegenerateModel, match=r"gen: it does not stop: more than 50% .* reach 40 tokens"):
        scorer.score({"gen": prepared.pools["gen"]["search"]})
    assert len(scorer.score({"gen": prepared.pools["gen"]["search"][:3]})["gen"].ids) == 3  # too few to judge
    prepared, scorer = bound(folder, model, tokenizer, "gen", max_cut_answers=1.0)
    assert len(scorer.score({"gen": prepared.pools["gen"]["search"]})["gen"].ids) == 8


def test_generation_has_a_time_limit(folder, model, tokenizer):
    prepared, scorer = bound(folder, model, tokenizer, "gen", max_gen_seconds=1e-6)
    with pytest.raises(EvomergeError, match=r"gen: its answers took longer than 1e-06 s.*; [1-8] of 8 were cut off"):
        scorer.score({"gen": prepared.pools["gen"]["search"]})
    prepared, scorer = bound(folder, model, tokenizer, "gen", max_gen_seconds=500)
    assert len(scorer.score({"gen": prepared.pools["gen"]["search"]})["gen"].values) == 8


def test_answers_that_the_clock_cuts_are_counted_and_give_no_score(write_task, model, tokenizer, monkeypatch):
    from lm_eval.models.huggingface import HFLM

    sampled = {"until": ["\n"], "max_gen_toks": 5, "do_sample": True, "temperature": 2.0}  # in fixed batches
    folder = write_task("gen", {"test": choice_rows(24)}, **GENERATE | {"generation_kwargs": sampled})
    prepared, scorer = bound(folder, model, tokenizer, "gen", max_gen_seconds=500)
    items = {"gen": prepared.pools["gen"]["search"]}
    expected = scorer.score(items)
    own, batches, clock = HFLM._model_generate, [], itertools.chain([0.0], itertools.repeat(499.9999))
    # The first reading sets the deadline; afterwards next to no time is left, and generation stops at once.
    for module in ("_texts", "_plain"):
        time = SimpleNamespace(monotonic=lambda: next(clock))
        monkeypatch.setattr(f"evomerge.evaluation.generation.{module}.time", time)

    def counted(self, context, max_length, stop, **kwargs):
        batches.append(len(context))
        return own(self, context, max_length, stop, **kwargs)

    monkeypatch.setattr(HFLM, "_model_generate", counted)
    with pytest.raises(EvomergeError, match=r"longer than 500 seconds .*; [1-8] of 8 were cut off"):
        scorer.score(items)
    assert batches == [5]  # by this clock the time was not over, but its answers were cut
    monkeypatch.undo()
    assert scorer.score(items) == expected


def test_answers_longer_than_the_model_are_refused(write_task, model, tokenizer):
    folder = write_task("gen", {"test": choice_rows(24)}, **GENERATE | {"generation_kwargs": {"until": ["a"]}})
    with pytest.raises(InvalidInput, match=r"answers may have 256 tokens, but the model reads 256"):
        bound(folder, model, tokenizer, "gen")


def test_a_tokenizer_of_another_model_is_refused(folder, model, tokenizer):
    model.resize_token_embeddings(40)
    prepared, scorer = bound(folder, model, tokenizer, "mc")
    with pytest.raises(InvalidInput, match="the model has 40"):
        scorer.score({"mc": prepared.pools["mc"]["search"]})


@pytest.mark.parametrize(("name", "ids"), [("other", [0]), ("mc", []), ("mc", [999]), ("mc", None)])
def test_bad_requests_name_the_objective(folder, model, tokenizer, name, ids):
    prepared, scorer = bound(folder, model, tokenizer, "mc")
    twice = [prepared.pools["mc"]["search"][0]] * 2
    with pytest.raises(EvomergeError, match=name):
        scorer.score({name: twice if ids is None else ids})


def test_filters_are_chosen_by_name_and_unused_metrics_dropped(write_task, model, tokenizer):
    take = {"function": "take_first"}
    filters = [
        {"name": "strict", "filter": [{"function": "regex", "regex_pattern": "^(never)$"}, take]},
        {"name": "first", "filter": [{"function": "regex", "regex_pattern": "([a-z])"}, take]},
    ]
    rows = [{"prompt": f"say {i}:", "answer": greedy(model, tokenizer, f"say {i}:", 1)} for i in range(24)]
    config = {"doc_to_text": "{{prompt}}", "doc_to_target": "{{answer}}", "filter_list": filters}
    metrics = [*GENERATE["metric_list"], {"metric": "bleu", "aggregation": "bleu", "higher_is_better": True}]
    folder = write_task("gen", {"test": rows}, **GENERATE | config | {"metric_list": metrics})
    requests = [TaskRequest(task="gen", metric=f"exact_match{name}") for name in ("", ",first")]
    prepared = prepare_tasks(requests, task_path=folder, pools=SMALL, seed=0)
    assert [one.name for one in prepared.objectives] == ["gen/exact_match", "gen/exact_match,first"]
    assert [prepared.facts[one.name]["filter"] for one in prepared.objectives] == ["strict", "first"]
    items = {one.name: prepared.pools[one.name]["search"] for one in prepared.objectives}
    scores = prepared.scorer(model, tokenizer, batch_size=8).score(items)
    assert [sum(one.values) for one in scores.values()] == [0.0, 8.0]


def test_bfloat16_log_likelihoods_are_not_rounded_to_bfloat16(folder, model, tokenizer):
    prepared, scorer = bound(folder, model.to(torch.bfloat16), tokenizer, "mc")
    soft = scorer.score({"mc": prepared.pools["mc"]["search"]})["mc"].soft
    assert any(float(torch.tensor(value).bfloat16()) != value for value in soft)


def test_a_full_gpu_is_an_error_that_holds_no_memory(folder, model, tokenizer, monkeypatch):
    prepared, scorer = bound(folder, model, tokenizer, "mc", batch_size=7)
    items = {"mc": prepared.pools["mc"]["search"]}
    first = scorer.score(items)
    held = []

    def full(**_):
        activations = torch.zeros(8)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nand more")

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(
        EvomergeError, match=r"use a batch_size below 7 \(CUDA out of memory\. Tried .* 2\.00 GiB\)"
    ) as e:
        scorer.score(items)
    assert len(held) == 1 and held[0]() is None  # though the error is still in hand
    assert e.value.__context__ is None
    monkeypatch.undo()
    assert scorer.score(items) == first


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), MemoryFull),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), MemoryFull),
        (RuntimeError("a view of the memory is broken"), RuntimeError),
    ],
    ids=["Python", "torch", "else"],
)
def test_a_full_memory_is_told_from_other_errors(error, kind, folder, model, tokenizer, monkeypatch):
    prepared, scorer = bound(folder, model, tokenizer, "mc")

    def full(**_):
        raise error

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(kind) as found:
        scorer.score({"mc": prepared.pools["mc"]["search"]})
    assert ("the memory of the machine is full" in str(found.value)) == (kind is MemoryFull)


def test_scoring_again_and_again_keeps_nothing(folder, model, tokenizer):
    """After every item has been seen and the plans kept are as many as may be, no tensor and no object stays behind."""
    prepared, scorer = bound(folder, model, tokenizer, "mc", "gen")
    pools = {name: [i for pool in prepared.pools[name].values() for i in pool] for name in ("mc", "gen")}
    rng = random.Random(0)

    def candidates(count):
        for _ in range(count):  # every candidate has a subset of its own
            scorer.score({name: rng.sample(ids, 6) for name, ids in pools.items()})
        gc.collect()
        tensors = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
        return tensors, len(gc.get_objects())

    scorer.score(pools)
    first, second = candidates(30), candidates(30)
    assert abs(second[0] - first[0]) <= 60  # one plan may have a batch more than another
    assert second[1] < 1.01 * first[1]
