"""Shared contexts, choices and prefixes change no log-likelihood, in every family that is said to allow it."""

import functools
import random
from importlib import import_module
from typing import Any

import pytest
import torch
from local_tasks import CHOICE, choice_rows
from tiny_models import tiny

from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
from evomerge.evaluation.score import (
    SHARING_FAMILIES,
    BatchLimits,
    ContextSharing,
    Forward,
    TokenPair,
    input_device,
    is_spread,
    make_batch_plan,
    readable_tokens,
    sharing_of,
)

LIMITS = BatchLimits(batch_size=64, max_tokens=200, max_length=128, vocab_size=120)


def questions() -> list[TokenPair]:
    """Return few-shot multiple-choice questions: a common prefix, contexts and choices of different lengths."""
    rng = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, 119) for _ in range(count))

    shots, pairs = tokens(20), []
    for i in range(6):
        context = shots + tokens(5 + 3 * i)
        pairs += [TokenPair(context=context, continuation=tokens(1 + (i * j) % 6)) for j in range(3 + i % 2)]
    return pairs


def distance(a: Any, b: Any) -> float:
    return max(
        abs(x - y) for one, other in zip(a, b, strict=True) for x, y in zip(one.tokens, other.tokens, strict=True)
    )


@pytest.mark.parametrize("family", sorted(SHARING_FAMILIES))
def test_family(family):
    model = tiny(family)
    forward = Forward(model)
    assert forward.sharing.possible
    plain = make_batch_plan(questions(), limits=LIMITS, sharing=ContextSharing(), device="cpu")
    shared = make_batch_plan(questions(), limits=LIMITS, sharing=forward.sharing, device="cpu")
    assert shared.prefix is not None and shared.prefix.numel() == 20
    assert any(batch.segments is not None for batch in shared.batches)
    assert shared.tokens < 0.6 * plain.tokens
    found, expected = forward.run(shared), forward.run(plain)
    assert distance(found, expected) < 1e-5
    assert [one.greedy for one in found] == [one.greedy for one in expected]


def test_prefix_and_trees_each_alone():
    model = tiny("llama")
    forward = Forward(model)
    plain = make_batch_plan(questions(), limits=LIMITS, sharing=ContextSharing(), device="cpu")
    without_prefix = [TokenPair(context=one.context[20:], continuation=one.continuation) for one in questions()]
    trees = make_batch_plan(without_prefix, limits=LIMITS, sharing=forward.sharing, device="cpu")
    assert trees.prefix is None and trees.tokens < 0.8 * sum(len(one.cut(128)) for one in without_prefix)
    rows = make_batch_plan(without_prefix, limits=LIMITS, sharing=ContextSharing(), device="cpu")
    assert distance(forward.run(trees), forward.run(rows)) < 1e-5
    one_each = questions()[::3]
    prefix = make_batch_plan(one_each, limits=LIMITS, sharing=forward.sharing, device="cpu")
    assert prefix.prefix is not None and all(batch.segments is None for batch in prefix.batches)
    again = make_batch_plan(one_each, limits=LIMITS, sharing=ContextSharing(), device="cpu")
    assert distance(forward.run(prefix), forward.run(again)) < 1e-5
    assert plain.tokens > prefix.tokens


def test_no_prediction_is_taken_from_inside_the_prefix():
    """Continuations that begin alike must not become part of what is read once."""
    rng = random.Random(1)
    shared = tuple(rng.randrange(3, 119) for _ in range(40))
    pairs = [TokenPair(context=shared[:25], continuation=(*shared[25:], number)) for number in (5, 6, 7)]
    pairs.append(TokenPair(context=shared[:30], continuation=(*shared[30:], 9, 9)))
    forward = Forward(tiny("llama"))
    plan = make_batch_plan(pairs, limits=LIMITS, sharing=forward.sharing, device="cpu")
    assert plan.prefix is not None and plan.prefix.numel() == 24
    expected = forward.run(make_batch_plan(pairs, limits=LIMITS, sharing=ContextSharing(), device="cpu"))
    assert distance(forward.run(plan), expected) < 1e-5


def test_plain_rows_where_sharing_is_not_known_to_work():
    from transformers import AutoConfig, AutoModelForCausalLM

    model = tiny("llama")
    assert not sharing_of(torch.nn.Linear(1, 1)).possible
    model.config._attn_implementation = "flash_attention_2"
    assert not sharing_of(model).possible
    model.config._attn_implementation = "sdpa"
    model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert not sharing_of(model).possible
    windowed = tiny("mistral")
    windowed.config.sliding_window = 30
    assert sharing_of(windowed) == ContextSharing(possible=True, window=30)
    plan = make_batch_plan(questions(), limits=LIMITS, sharing=sharing_of(windowed), device="cpu")
    assert plan.prefix is None and all(batch.segments is None for batch in plan.batches)
    config = AutoConfig.for_model("bloom", hidden_size=32, n_layer=1, n_head=4, vocab_size=120)
    assert not sharing_of(AutoModelForCausalLM.from_config(config)).possible


def test_batches_stay_below_rows_and_tokens():
    pairs = questions()
    limits = BatchLimits(batch_size=3, max_tokens=100, max_length=128, vocab_size=120)
    for sharing in (ContextSharing(), ContextSharing(possible=True)):
        plan = make_batch_plan(pairs, limits=limits, sharing=sharing, device="cpu")
        prefix = 0 if plan.prefix is None else plan.prefix.numel()
        for batch in plan.batches:
            rows, width = batch.ids.shape
            assert rows == 1 or (rows <= 3 and rows * (prefix + width) <= 100)


def test_few_shot_scores_in_bfloat16_are_as_good_as_plain_ones(write_task, model, tokenizer, monkeypatch):
    """ContextSharing must not lose more to rounding than bfloat16 loses anyway."""
    rows = {"train": choice_rows(6, 500), "validation": choice_rows(4, 300), "test": choice_rows(24)}
    config = {"fewshot_split": "train", "num_fewshot": 4, "fewshot_config": {"sampler": "first_n"}}
    folder = write_task("fs", rows, **CHOICE | config)
    prepared = prepare_tasks(
        [TaskRequest(task="fs")], task_path=folder, pools=PoolSizes(search=0, select=0, report=24), seed=0
    )
    items = {"fs": prepared.pools["fs"]["report"]}
    exact = prepared.scorer(model, tokenizer, batch_size=64).score(items)["fs"].soft
    half, read = model.to(torch.bfloat16), []
    half.register_forward_pre_hook(lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True)
    shared = prepared.scorer(half, tokenizer, batch_size=64).score(items)["fs"].soft
    shared_tokens = sum(read)
    read.clear()
    with monkeypatch.context() as patch:
        patch.setattr(half.config, "model_type", "a family that is not listed")
        plain = prepared.scorer(half, tokenizer, batch_size=64).score(items)["fs"].soft

    def error(values: Any) -> float:
        return float((torch.tensor(values) - torch.tensor(exact)).square().mean().sqrt())

    assert shared_tokens < 0.2 * sum(read)
    assert error(shared) < 2 * error(plain) + 1e-3


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "qwen3", "opt", "phi3"])
def test_attention_in_blocks_of_wide_trees(family, monkeypatch):
    """Blocks of queries see the keys up to their end: with and without a prefix, with and without grouped heads."""
    rng = random.Random(2)
    pairs = []
    for i in range(4):
        context = tuple(rng.randrange(3, 119) for _ in range(30 + i))
        pairs += [
            TokenPair(context=context, continuation=tuple(rng.choices(range(3, 119), k=25 + j))) for j in range(4)
        ]
    shots = tuple(rng.randrange(3, 119) for _ in range(20))
    few_shot = [TokenPair(context=shots + one.context, continuation=one.continuation) for one in pairs]
    calls = []
    where = "evomerge.evaluation.score._tree_attention"
    in_blocks = import_module(where)._in_blocks
    monkeypatch.setattr(f"{where}._in_blocks", lambda *args, **kw: calls.append(1) or in_blocks(*args, **kw))
    forward = Forward(tiny(family))
    for asked in (pairs, few_shot):
        calls.clear()
        plan = make_batch_plan(asked, limits=LIMITS, sharing=forward.sharing, device="cpu")
        assert (plan.prefix is not None) == (asked is few_shot)
        assert plan.batches[0].ids.shape[1] > 120
        plain = make_batch_plan(asked, limits=LIMITS, sharing=ContextSharing(), device="cpu")
        found = forward.run(plan)
        assert len(calls) == (0 if forward.model.config._attn_implementation == "eager" else 2 * len(plan.batches))
        assert distance(found, forward.run(plain)) < 1e-5


def test_a_spread_model_gets_its_positions_without_a_device():
    """On several devices no tensor may say which logits to keep: it would lie on the first, the states on the last."""
    from evomerge.engine.live import attach_hooks

    model = tiny("llama")
    plan = make_batch_plan(questions(), limits=LIMITS, sharing=sharing_of(model), device="cpu")
    expected = Forward(model).run(plan)
    seen = []
    own = model.forward

    @functools.wraps(own)
    def watched(**kwargs: Any) -> Any:
        seen.append(kwargs["logits_to_keep"])
        return own(**kwargs)

    model.forward = watched
    attach_hooks(model, {name: torch.device("cpu") for name, _ in model.named_parameters()}, torch.device("cpu"))
    forward = Forward(model)  # finds out what the model takes, through the hooks
    forward._spread = True
    assert forward.run(plan) == expected
    assert len(seen) == 1 + len(plan.batches) and all(isinstance(one, list | int) for one in seen)


def test_tokens_go_to_the_embedding_of_a_spread_model():
    class Spread(torch.nn.Module):
        """Its first parameter is not the embedding."""

        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 2)
            self.embedding = torch.nn.Embedding(5, 2, device="meta")

        def get_input_embeddings(self) -> Any:
            return self.embedding

    model = Spread()
    assert next(model.parameters()).device.type == "cpu"
    assert input_device(model).type == "meta" and is_spread(model) and not is_spread(model.head)
    assert input_device(model.head).type == "cpu" and readable_tokens(model, None) == 5
