"""The gradient of right answers' log-likelihood: that of each question by itself, whichever way it is taken."""

from typing import Any

import pytest
import torch
from local_tasks import CHOICE, choice_rows

from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks

POOLS = PoolSizes(search=8, select=8, report=8)
# One-letter answers to long prompts are scored and differentiated together; of long answers the right ones alone.
KINDS: dict[str, tuple[str, list[str]]] = {
    "together": ("{{question}}" + " and a long story about it, told again" * 3, ["a", "b", "c"]),
    "apart": ("{{question}}", ["abcdefghijkl", "bcdefghijklm", "cdefghijklmn"]),
}


def gradient_of(model: Any, run: Any) -> torch.Tensor:
    """Return the gradient by the model's parameters that `run` takes, in however many passes, as one vector."""
    parameters, handles = list(model.parameters()), []
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for parameter, found in zip(parameters, total, strict=True):
        parameter.requires_grad_(True)

        def take(parameter: torch.Tensor, found: torch.Tensor = found) -> None:
            found.add_(parameter.grad)  # type: ignore[arg-type]
            parameter.grad = None

        handles.append(parameter.register_post_accumulate_grad_hook(take))
    with torch.enable_grad():
        run()
    for handle in handles:
        handle.remove()
    return torch.cat([found.flatten() for found in total])


def by_hand(model: Any, tokenizer: Any, questions: list[tuple[str, str]]) -> None:
    """Run the mean of the answers' log-likelihoods, bounded as is documented, backward, a question at a time."""
    for context, answer in questions:
        whole = tokenizer(context + answer, return_tensors="pt").input_ids
        start = len(tokenizer(context).input_ids)
        logits = model(input_ids=whole[:, :-1]).logits[0, start - 1 :].log_softmax(1)
        value = logits.gather(1, whole[0, start:, None]).sum()
        value = value * min(1.0, 8 / (whole.shape[1] - start))
        bounded = value if value > -8 else -8 + 0.1 * (value + 8)
        (bounded / len(questions)).backward()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_as_question_by_question(kind: str, write_task: Any, model: Any, tokenizer: Any) -> None:
    rows, (text, choices) = choice_rows(24), KINDS[kind]
    folder = write_task("mc", {"test": rows}, **{**CHOICE, "doc_to_text": text, "doc_to_choice": choices})
    prepared = prepare_tasks([TaskRequest(task="mc")], task_path=folder, pools=POOLS, seed=0, lm_eval_options={})
    scorer = prepared.scorer(model, tokenizer, batch_size=5)
    ids = prepared.pools["mc"]["search"]
    plain = scorer.score({"mc": ids})
    expected_passes = {"apart": {False, True}, "together": {True}}[kind]
    passes: set[bool] = set()
    model.register_forward_pre_hook(lambda *_: passes.add(torch.is_grad_enabled()))
    found = gradient_of(model, lambda: checked(scorer.score({"mc": ids}, {"mc": 1.0}), plain))
    assert passes == expected_passes
    questions = [(text.replace("{{question}}", rows[i]["question"]), " " + choices[rows[i]["label"]]) for i in ids]
    expected = gradient_of(model, lambda: by_hand(model, tokenizer, questions))
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def checked(scored: Any, plain: Any) -> None:
    """Scores with a gradient are those without."""
    assert scored["mc"].values == plain["mc"].values
    assert scored["mc"].soft == pytest.approx(plain["mc"].soft, abs=1e-5)


@pytest.mark.parametrize(
    ("metric", "followed"),
    [
        ({"metric": "acc", "aggregation": "mean", "higher_is_better": True}, True),
        ({"metric": "acc", "aggregation": "mean", "higher_is_better": False}, False),
        ({"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False}, True),
    ],
)
def test_a_metric_that_likelier_answers_make_worse_has_no_gradient(
    metric: dict[str, Any], followed: bool, write_task: Any, model: Any, tokenizer: Any
) -> None:
    """A share of stereotypes that is to fall must not be raised by steps along its answers' likelihood."""
    folder = write_task("mc", {"test": choice_rows(24)}, **{**CHOICE, "metric_list": [metric]})
    prepared = prepare_tasks([TaskRequest(task="mc")], task_path=folder, pools=POOLS, seed=0, lm_eval_options={})
    assert prepared.scorer(model, tokenizer, batch_size=8).has_gold(["mc"]) is followed
