"""Our own evaluators keep the contract, in the ways in which they can be asked for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from local_tasks import CHOICE, choice_rows, text_rows

from evomerge.errors import InvalidInput
from evomerge.evaluation import (
    Evaluator,
    PrepareContext,
    Prepared,
    PreparedTask,
    TaskRequest,
    prepare_items,
    prepare_tasks,
)
from evomerge.records import ItemScores
from evomerge.testing.evaluators import EvaluatorContract

GENERATE: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[label]}}",
    "generation_kwargs": {"until": ["a"], "max_gen_toks": 4},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
ROLLING: dict[str, Any] = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}],
}


class LmEvalContract(EvaluatorContract):
    """An lm-eval task of the test's own."""

    name = "mc"
    config: Mapping[str, Any] = CHOICE
    metric: str | None = "acc"

    @pytest.fixture(autouse=True)
    def _folder(self, write_task: Any) -> None:
        rows = text_rows(14) if self.config is ROLLING else choice_rows(14)
        self.folder: Path = write_task(self.name, {"test": rows}, **self.config)

    def request(self) -> TaskRequest:
        return TaskRequest(task=self.name, metric=self.metric)

    def prepare(self, request: TaskRequest, *, seed: int = 0) -> Prepared:
        return prepare_tasks([request], task_path=self.folder, pools=self.pools, seed=seed)


class TestMultipleChoice(LmEvalContract):
    pass


class TestPerplexity(LmEvalContract):
    name, config, metric = "roll", ROLLING, None


class TestGeneration(LmEvalContract):
    name, config, metric = "gen", GENERATE, None


class TestGroup(LmEvalContract):
    def request(self) -> TaskRequest:
        entry = {"group": "both", "task": ["mc"], "aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}]}
        (self.folder / "both.yaml").write_text(yaml.safe_dump(entry))
        return TaskRequest(task="both")


def last_letter(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    """Return the log-likelihood of the last letter of each word, badly behaved in every way that does no harm."""
    values = []
    model.train()
    for item in items:
        tokens = torch.tensor([tokenizer.encode(item.pop("word"))])
        values.append(model(tokens).logits[0, -2].log_softmax(-1)[tokens[0, -1]])
    torch.manual_seed(torch.randint(0, 100, ()).item())
    return values


WORDS = [{"word": f"word {i} {'x' * (i % 3)}"} for i in range(12)]


class TestFunction(EvaluatorContract):
    def request(self) -> TaskRequest:
        return TaskRequest(scorer=last_letter, items=WORDS)


class TestScorerFile(EvaluatorContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        (tmp_path / "helper.py").write_text("def size(item):\n    return len(item['word'])\n")
        code = "import helper\ndef sizes(model, tokenizer, items):\n    return [helper.size(item) for item in items]\n"
        (tmp_path / "sizes.py").write_text(code)
        (tmp_path / "words.jsonl").write_text("".join(json.dumps(word) + "\n" for word in WORDS))

    def request(self) -> TaskRequest:
        scorer = f"{self.folder / 'sizes.py'}:sizes"
        return TaskRequest(scorer=scorer, items=self.folder / "words.jsonl", direction="min")


class NextLetter(Evaluator):
    """Log-likelihood of the last letter of each word of a list."""

    name = "next_letter"
    description = "last letter of each word"

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def prepare(self, options: Mapping[str, Any], context: PrepareContext) -> PreparedTask:
        """Take the words as they are."""
        if set(options) != {"words"}:
            raise InvalidInput(f"found options {sorted(options)}, expected words: [...] alone")
        return prepare_items(options["words"], context, objective=context.objective("next_letter"))

    def score(
        self, task: PreparedTask, ids: Sequence[int], model: Any, tokenizer: Any, *, batch_size: int
    ) -> ItemScores:
        """Score one word at a time."""
        values = []
        for number in ids:
            tokens = torch.tensor([tokenizer.encode(task.items[number])])
            values.append(self.scale * float(model(tokens).logits[0, -2].log_softmax(-1)[tokens[0, -1]]))
        return ItemScores(ids=tuple(ids), values=tuple(values))


class TestOwnEvaluator(EvaluatorContract):
    def request(self) -> TaskRequest:
        return TaskRequest(evaluator=NextLetter(), options={"words": [f"word {i}" for i in range(12)]})
