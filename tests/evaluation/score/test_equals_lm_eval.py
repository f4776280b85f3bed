"""Item by item, scores equal those of `lm_eval.simple_evaluate` with its own HFLM, on every output type."""

from pathlib import Path
from typing import Any

import pytest
import torch
from local_tasks import ACC, CHOICE, LETTERS, choice_rows, greedy, text_rows

from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
from evomerge.records import ItemScores

DIGEST = '''
import zlib

def digest(doc, results):
    """A number that tells one answer from another."""
    return {"digest": zlib.crc32(results[0].encode())}
'''
ALL = PoolSizes(search=8, select=8, report=8)


def reference(model: Any, tokenizer: Any, folder: Path, task: str, batch_size: int = 8) -> dict[int, dict[str, Any]]:
    """Return document number -> lm-eval's sample (for the first filter)."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    result = lm_eval.simple_evaluate(lm, tasks=[task], task_manager=manager, bootstrap_iters=0)
    assert result is not None
    return {sample["doc_id"]: sample for sample in result["samples"][task]}


def ours(model: Any, tokenizer: Any, folder: Path, requests: list[TaskRequest], pools: PoolSizes) -> dict[str, Any]:
    """Return objective -> scores of all its pools."""
    prepared = prepare_tasks(requests, task_path=folder, pools=pools, seed=3)
    scorer = prepared.scorer(model, tokenizer, batch_size=5)
    ids = {name: [i for pool in pools.values() for i in pool] for name, pools in prepared.pools.items()}
    return dict(scorer.score(ids))


def by_id(scores: ItemScores) -> dict[int, float]:
    return dict(zip(scores.ids, scores.values, strict=True))


def write_digest_task(write_task: Any, rows: Any, **config: Any) -> Path:
    """Write a task "gen" whose metric is a number that tells one answer from another."""
    metrics = [{"metric": "digest", "aggregation": "mean", "higher_is_better": True}]
    folder: Path = write_task("gen", rows, **config, process_results="DIGEST", metric_list=metrics)
    text = (folder / "gen.yaml").read_text()
    (folder / "gen.yaml").write_text(
        text.replace("process_results: DIGEST", "process_results: !function functions.digest")
    )
    (folder / "functions.py").write_text(DIGEST)
    return folder


@pytest.fixture(autouse=True)
def _from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_task: Any) -> None:
    """lm-eval takes relative data files from the current folder."""
    (tmp_path / "tasks").mkdir()
    monkeypatch.chdir(tmp_path / "tasks")


def test_multiple_choice(model, tokenizer, write_task):
    folder = write_task("mc", {"test": choice_rows(24)}, **CHOICE)
    requests = [TaskRequest(task="mc", metric=metric) for metric in ("acc", "acc_norm")]
    scores = ours(model, tokenizer, folder, requests, ALL)
    expected = reference(model, tokenizer, folder, "mc")
    for metric in ("acc", "acc_norm"):
        assert by_id(scores[f"mc/{metric}"]) == {i: sample[metric] for i, sample in expected.items()}
    soft = dict(zip(scores["mc/acc"].ids, scores["mc/acc"].soft, strict=True))
    for i, sample in expected.items():
        values = [value for ((value, _),) in sample["resps"]]
        gold = values.pop(sample["target"])
        assert soft[i] == pytest.approx(gold - max(values), abs=1e-5)
    assert 0 < sum(scores["mc/acc"].values) < 24


def test_log_likelihood_and_perplexity(model, tokenizer, write_task):
    rows = [{"prompt": f"p{i}=", "answer": greedy(model, tokenizer, f"p{i}=", 2)} for i in range(24)]
    for row in rows[::2]:
        row["answer"] += "q"
    metrics = [*ACC, {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}]
    config = {"output_type": "loglikelihood", "doc_to_text": "{{prompt}}", "doc_to_target": "{{answer}}"}
    folder = write_task("ll", {"test": rows}, **config, metric_list=metrics)
    requests = [TaskRequest(task="ll", metric=metric) for metric in ("acc", "perplexity")]
    scores = ours(model, tokenizer, folder, requests, ALL)
    expected = reference(model, tokenizer, folder, "ll")
    assert by_id(scores["ll/acc"]) == {i: sample["acc"] for i, sample in expected.items()}
    assert 0 < sum(scores["ll/acc"].values) < 24
    log_likelihoods = {i: sample["perplexity"] for i, sample in expected.items()}
    assert by_id(scores["ll/perplexity"]) == pytest.approx(log_likelihoods, abs=1e-5)
    assert scores["ll/acc"].soft == scores["ll/perplexity"].values


def test_rolling_perplexities_with_windows(model, tokenizer, write_task):
    rows = [*text_rows(22), {"text": "long " * 120}, {"text": "longer " * 90}]  # more than one window
    metrics = [
        {"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False},
        {"metric": "byte_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False},
        {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False},
    ]
    names = [metric["metric"] for metric in metrics]
    config = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
    folder = write_task("roll", {"test": rows}, **config, metric_list=metrics)
    prepared = prepare_tasks([TaskRequest(task="roll", metric=m) for m in names], task_path=folder, pools=ALL, seed=0)
    scores = ours(model, tokenizer, folder, [TaskRequest(task="roll", metric=m) for m in names], ALL)
    expected = reference(model, tokenizer, folder, "roll")
    import math

    import lm_eval.api.metrics as aggregations

    for objective, aggregate in zip(
        prepared.objectives,
        (aggregations.weighted_perplexity, aggregations.weighted_perplexity, aggregations.bits_per_byte),
        strict=True,
    ):
        found = scores[objective.name]
        inner = sum(v * w for v, w in zip(found.values, found.weights, strict=True)) / sum(found.weights)
        metric = math.exp(-inner) if objective.link == "exp" else -inner
        assert objective.direction == "min"
        assert metric == pytest.approx(aggregate([s[objective.metric] for s in expected.values()]), rel=1e-5)
        for i, weight in zip(found.ids, found.weights, strict=True):
            assert weight == expected[i][objective.metric][1]


def test_generation(model, tokenizer, write_task):
    rows = [{"prompt": f"say {i}:", "answer": greedy(model, tokenizer, f"say {i}:", 4)} for i in range(24)]
    for row in rows[::3]:
        row["answer"] = "no"
    config = {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    folder = write_task("gen", {"test": rows}, **config)
    scores = ours(model, tokenizer, folder, [TaskRequest(task="gen")], ALL)
    expected = reference(model, tokenizer, folder, "gen")
    assert by_id(scores["gen"]) == {i: float(sample["exact_match"]) for i, sample in expected.items()}
    assert 0 < sum(scores["gen"].values) < 24
    assert scores["gen"].soft is None


def test_generation_with_examples_stop_strings_and_settings_of_the_model(model, tokenizer, write_task):
    rows = [{"prompt": f"{'say ' * (i % 7)}{i}:", "answer": "abc"[: i % 3]} for i in range(32)]
    config = {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "num_fewshot": 2,
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
        "generation_kwargs": {"until": ["ab", "\n", "zz"], "max_gen_toks": 12},
    }
    folder = write_digest_task(write_task, {"train": rows[:4], "test": rows[4:]}, **config)
    settings = {"eos_token_id": [0, *tokenizer.encode("kq")], "repetition_penalty": 1.2, "no_repeat_ngram_size": 4}
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    scores = ours(model, tokenizer, folder, [TaskRequest(task="gen")], PoolSizes(search=0, select=0, report=28))
    expected = reference(model, tokenizer, folder, "gen", batch_size=1)
    found = {i - 4: value for i, value in by_id(scores["gen"]).items()}  # the examples are numbered first
    assert found == {i: sample["digest"] for i, sample in expected.items()}
    texts = [expected[i]["resps"][0][0] for i in found]
    assert len(set(texts)) > 12
    assert len({len(text) for text in texts}) > 4, "answers end in different ways"


def test_a_model_with_an_encoder_answers_as_in_batches_of_lm_eval(tokenizer, write_task):
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": len(tokenizer)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ends = {"decoder_start_token_id": 1, "eos_token_id": 0, "pad_token_id": 1}
        model = T5ForConditionalGeneration(T5Config(**sizes, **ends)).eval()
    rows = [{"prompt": f"{'say ' * (i % 7)}{i}:", "answer": "a"} for i in range(24)]
    config = {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6},
    }
    folder = write_digest_task(write_task, {"test": rows}, **config)
    scores = ours(model, tokenizer, folder, [TaskRequest(task="gen")], ALL)
    expected = reference(model, tokenizer, folder, "gen", batch_size=5)
    assert by_id(scores["gen"]) == {i: sample["digest"] for i, sample in expected.items()}
    assert len(set(scores["gen"].values)) > 3


def test_few_shot_prompts_of_the_report_pool(model, tokenizer, write_task):
    rows = {"train": choice_rows(40), "validation": choice_rows(12, 100), "test": choice_rows(24, 200)}
    folder = write_task("fs", rows, **CHOICE, fewshot_split="train", num_fewshot=2)
    scores = ours(model, tokenizer, folder, [TaskRequest(task="fs")], PoolSizes(search=4, select=4, report=16))
    expected = reference(model, tokenizer, folder, "fs")
    reported = {i - 12: value for i, value in by_id(scores["fs"]).items() if i >= 12}  # validation is numbered first
    assert len(reported) == 16
    assert reported == {i: expected[i]["acc"] for i in reported}


def test_one_token_choices_share_a_row(model, tokenizer, write_task, monkeypatch):
    rows = [{"question": f"{LETTERS[i]}{i}", "choices": ["a", "b", "c"], "label": i % 3} for i in range(24)]
    folder = write_task("one", {"test": rows}, **CHOICE | {"target_delimiter": ""})
    seen = []
    forward = type(model).forward

    def counted(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        seen.append(len(input_ids))
        return forward(self, input_ids=input_ids, **kwargs)

    prepared = prepare_tasks([TaskRequest(task="one", metric="acc")], task_path=folder, pools=ALL, seed=0)
    scorer = prepared.scorer(model, tokenizer, batch_size=64)
    monkeypatch.setattr(type(model), "forward", counted)
    found = by_id(scorer.score({"one": prepared.pools["one"]["search"]})["one"])
    assert seen == [8]
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    expected = reference(model, tokenizer, folder, "one")
    assert found == {i: expected[i]["acc"] for i in found}


def test_choices_in_the_prompt_and_mutual_information(model, tokenizer, write_task):
    blanks = {"doc_to_text": "{{label}}", "doc_to_target": "{{question}}"}  # every choice is a context of its own
    folder = write_task("blank", {"test": choice_rows(24)}, **CHOICE | blanks | {"metric_list": ACC})
    mutual = [*ACC, {"metric": "acc_mutual_info", "aggregation": "mean", "higher_is_better": True}]
    write_task("mutual", {"test": choice_rows(24)}, **CHOICE | {"metric_list": mutual})
    requests = [TaskRequest(task="blank"), TaskRequest(task="mutual", metric="acc_mutual_info")]
    scores = ours(model, tokenizer, folder, requests, ALL)
    for name, metric in (("blank", "acc"), ("mutual", "acc_mutual_info")):
        expected = reference(model, tokenizer, folder, name)
        assert by_id(scores[name]) == {i: sample[metric] for i, sample in expected.items()}
        assert 0 < sum(scores[name].values) < 24


def test_several_right_answers(model, tokenizer, write_task):
    rows = [{"prompt": f"say {i}:", "answers": ["no", greedy(model, tokenizer, f"say {i}:", 4)]} for i in range(24)]
    for row in rows[::2]:
        row["answers"].pop()
    config = {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answers}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    folder = write_task("several", {"test": rows}, **config)
    scores = ours(model, tokenizer, folder, [TaskRequest(task="several")], ALL)
    expected = reference(model, tokenizer, folder, "several")
    assert by_id(scores["several"]) == {i: float(sample["exact_match"]) for i, sample in expected.items()}
    assert sum(scores["several"].values) == 12
