"""What a model costs as an objective: its layers, and the tokens of its answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import InvalidFile
from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
from evomerge.records import Objective

SIZES = PoolSizes(search=4, select=4, report=4)


def test_layers_are_counted_and_are_no_part_of_the_mean(model: Any, tokenizer: Any) -> None:
    prepared = prepare_tasks([TaskRequest(evaluator="layers", floor=3.0)], pools=SIZES, seed=0)
    (objective,) = prepared.objectives
    expected = Objective(name="layers", task="layers", metric="layers", direction="min", weight=0.0, floor=3.0)
    assert (objective, objective.exact) == (replace(expected, exact=True), True)
    assert prepared.pools["layers"] == {"search": (0,), "select": (1,), "report": (2,)}
    needs = prepared.needs(["layers"])
    assert not needs.text and not needs.model, "no weights are read for it"
    scores = prepared.scorer(model, tokenizer, batch_size=2).score({"layers": (1,)})["layers"]
    assert scores.values == (-2.0,)


def test_a_weight_that_is_given_counts() -> None:
    prepared = prepare_tasks([TaskRequest(evaluator="layers", weight=0.5, scale=(2, 6))], pools=SIZES, seed=0)
    assert prepared.objectives[0].weight == 0.5


def test_what_layers_do_not_have_is_refused() -> None:
    with pytest.raises(InvalidFile, match="layers has no option 'most'; it takes floor: "):
        prepare_tasks([TaskRequest(evaluator="layers", options={"most": 3})], pools=SIZES, seed=0)


@pytest.fixture
def answers(write_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task whose answers end by themselves, by a stop string, or at eight tokens."""
    (tmp_path / "tasks").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "tasks")
    rows = [{"prompt": f"{'say ' * (i % 5)}{i}:"} for i in range(12)]
    folder: Path = write_task(
        "gen",
        {"test": rows},
        output_type="generate_until",
        doc_to_text="{{prompt}}",
        doc_to_target="no",
        generation_kwargs={"until": ["\n"], "max_gen_toks": 8},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    return folder


def lengths(model: Any, tokenizer: Any, folder: Path, batch_size: int, *more: TaskRequest) -> dict[int, float]:
    """Return item -> tokens of its answer."""
    requests = [*more, TaskRequest(task="gen", metric="answer_tokens", name="tokens")]
    prepared = prepare_tasks(requests, task_path=folder, pools=SIZES, seed=0)
    scorer = prepared.scorer(model, tokenizer, batch_size=batch_size)
    ids = [i for pool in prepared.pools["tokens"].values() for i in pool]
    found = scorer.score({objective.name: ids for objective in prepared.objectives})["tokens"]
    return dict(zip(found.ids, (-value for value in found.values), strict=True))


def test_the_tokens_of_answers_are_counted_up_to_their_end(model: Any, tokenizer: Any, answers: Path) -> None:
    """Whatever shares the batch: rows that ended are filled up there until the last one ends."""
    text = (answers / "gen.yaml").read_text()
    free = lengths(model, tokenizer, answers, 1)
    assert set(free.values()) == {8.0}
    import torch

    written = {}
    for i in range(12):
        ids = torch.tensor([tokenizer.encode(f"{'say ' * (i % 5)}{i}:")])
        with torch.no_grad():
            for _ in range(8):
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
        written[i] = tokenizer.decode(ids[0, -8:])
    middle = written[0][2:4]  # a string that the first answer has after two letters
    end = tokenizer.encode(written[1][3])[0]  # and an end token that the second has fourth
    (answers / "gen.yaml").write_text(text.replace("until:\n", f"until:\n  - {middle!r}\n"))
    model.generation_config.eos_token_id = [0, end]
    expected = {
        i: float(min([8, *(answer.index(stop) + len(stop) for stop in (middle, written[1][3]) if stop in answer)]))
        for i, answer in written.items()
    }
    assert len(set(expected.values())) > 2
    for batch_size in (1, 5):
        assert lengths(model, tokenizer, answers, batch_size) == expected
    assert lengths(model, tokenizer, answers, 5, TaskRequest(task="gen")) == expected


def test_tokens_are_a_cost_of_tasks_that_generate(answers: Path, write_task: Any) -> None:
    requests = [TaskRequest(task="gen"), TaskRequest(task="gen", metric="answer_tokens")]
    prepared = prepare_tasks(requests, task_path=answers, pools=SIZES, seed=0)
    facts = [(o.name, o.direction, o.weight, o.exact) for o in prepared.objectives]
    assert facts == [("gen/exact_match", "max", 1.0, False), ("gen/answer_tokens", "min", 0.0, False)]
    rows = [{"text": f"some words {i}"} for i in range(12)]
    perplexity = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
    folder = write_task("reads", {"test": rows}, **perplexity)
    with pytest.raises(InvalidFile, match='it has no metric "answer_tokens"'):
        prepare_tasks([TaskRequest(task="reads", metric="answer_tokens")], task_path=folder, pools=SIZES, seed=0)
