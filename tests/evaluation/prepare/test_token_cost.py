"""`Prepared.tokens` tells from the texts what the batches will hold."""

import time

import pytest
from local_tasks import ACC, CHOICE, choice_rows, text_rows

from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks

SIZES = PoolSizes(search=8, select=8, report=8)


def tokens_read(prepared, model, tokenizer, items):
    """Return the tokens that go through the model while it scores, padding included."""
    read = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    prepared.scorer(model, tokenizer, batch_size=64).score(items)
    hook.remove()
    return sum(read)


@pytest.mark.parametrize("shots", [0, 3])
def test_choices_share_their_context_and_prompts_their_beginning(shots, model, tokenizer, write_task):
    rows = {"train": choice_rows(4, 500), "validation": choice_rows(20, 300), "test": choice_rows(24)}
    for row in [*rows["validation"], *rows["test"]]:
        row["question"] = "question: " * 3 + row["question"]
    few = {"fewshot_split": "train", "num_fewshot": shots, "fewshot_config": {"sampler": "first_n"}}
    folder = write_task("mc", rows, **CHOICE | few)
    requests = [TaskRequest(task="mc", metric=metric) for metric in ("acc", "acc_norm")]
    prepared = prepare_tasks(requests, task_path=folder, pools=SIZES, seed=0)
    items = {name: pools["search"] for name, pools in prepared.pools.items()}
    found = prepared.tokens(tokenizer, items)
    assert found == pytest.approx(tokens_read(prepared, model, tokenizer, items), rel=0.25)
    assert prepared.tokens(tokenizer, {"mc/acc": items["mc/acc"]}) == found  # two metrics, one reading
    assert prepared.tokens(tokenizer, {}) == 0


def test_texts_and_generated_answers(model, tokenizer, write_task):
    rolling = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
    metrics = [{"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}]
    write_task("roll", {"test": text_rows(24)}, **rolling, metric_list=metrics)
    generation = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 40}, "output_type": "generate_until"}
    texts = {"doc_to_text": "{{question}}", "doc_to_target": "{{label}}"}
    exact = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    folder = write_task("gen", {"test": choice_rows(24)}, **generation, **texts, metric_list=exact)
    requests = [TaskRequest(task=name) for name in ("roll", "gen")]
    prepared = prepare_tasks(requests, task_path=folder, pools=SIZES, seed=0)
    read = prepared.pools["roll"]["search"]
    exact = sum(len(tokenizer.encode(text_rows(24)[i]["text"])) for i in read)
    assert prepared.tokens(tokenizer, {"roll": read}) == pytest.approx(exact, rel=0.05)
    asked = prepared.pools["gen"]["search"]
    assert 8 * 40 < prepared.tokens(tokenizer, {"gen": asked}) < 8 * 50


def test_an_estimate_is_quick_and_close_for_many_items(model, tokenizer, write_task):
    rows = choice_rows(1000)
    for i, row in enumerate(rows):
        row["question"] += f" {i}" * (100 + i % 50)
    folder = write_task("mc", {"test": rows}, **CHOICE | {"metric_list": ACC})
    pools = PoolSizes(search=0, select=0, report=1000)
    prepared = prepare_tasks([TaskRequest(task="mc")], task_path=folder, pools=pools, seed=0)
    for _ in range(3):  # on a busy machine even a processor's seconds are long
        started = time.process_time()
        found = prepared.tokens(tokenizer, {"mc": prepared.pools["mc"]["report"]})
        seconds = time.process_time() - started
        if seconds < 1:
            break
    assert seconds < 1
    exact = sum(len(tokenizer.encode(row["question"])) + sum(map(len, row["choices"])) for row in rows)
    assert found == pytest.approx(exact, rel=0.05)
