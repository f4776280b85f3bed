"""lm-eval's own HumanEval and MBPP files, untouched: given answers, from stop strings and filters to the metric.

Their data sets are stood in for by folders of the same names with a few items in the same columns. Where evaluate's own
`code_eval` is at hand (`EVOMERGE_CODE_EVAL` names its folder, or the Hub's client has it in its cache), lm-eval's own
scores of the same answers are compared, too.
"""

import functools
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks, sandbox
from evomerge.evaluation.generation import Answer, Prompt
from evomerge.evaluation.sandbox import Limits

# Bodies of f_0(x), f_1(x), ...: what a model may write after the signature, and whether f(3) is then 9.
BODIES = [
    ("    return x * x\n", True),
    ("    return x + 1\n", False),
    ("    for i in range(100_000):\n        print('x' * 80)\n    return x * x\n", True),
    ("    import sys\n    sys.stderr.write('y' * 1_000_000)\n    return x ** 2\n", True),
    ("    while True:\n        print('z')\n", False),
    ("    raise SystemExit\n", False),
    ("    return x *\n", False),
    ("    return int(input()) * x\n", False),
    ("    import math\n    return math.prod([x, x])\n", True),
]
STOPPED = "\ndef other():\n    return 1 / 0\n\nprint(other())\n"  # HumanEval's stop strings cut it off
TASKS = {
    "humaneval": lambda i, body: body + STOPPED,
    "humaneval_instruct": lambda i, body: body + "```\nThis squares the number.",
    "mbpp": lambda i, body: f"def f_{i}(x):\n{body}[DONE]\nprint(1 / 0)",
    # Without the empty line, lm-eval's filter takes "def" for the name of a language.
    "mbpp_instruct": lambda i, body: f"\ndef f_{i}(x):\n{body}```\nThis squares `x`.",
}


def signature(number: int) -> str:
    return f'def f_{number}(x):\n    """Return the square of x."""\n'


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both data sets, where lm-eval's files look for them from the working directory."""
    numbers = range(len(BODIES))
    human = [
        {
            "task_id": f"HumanEval/{i}",
            "prompt": signature(i),
            "canonical_solution": "    return x * x\n",
            "test": "def check(candidate):\n    assert candidate(3) == 9\n    assert candidate(-2) == 4\n",
            "entry_point": f"f_{i}",
        }
        for i in numbers
    ]
    basic = [
        {
            "task_id": 600 + i,
            "text": "Write a function to square a number.",
            "code": f"def f_{i}(x):\n    return x * x",
            "test_list": [f"assert f_{i}({x}) == {x * x}" for x in (3, -2, 0)],
            "test_setup_code": "",
            "challenge_test_list": [],
        }
        for i in numbers
    ]
    for name, rows in (("openai/openai_humaneval", human), ("google-research-datasets/mbpp", basic)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    card = "---\nconfigs:\n- config_name: full\n  data_files:\n  - {split: test, path: test.jsonl}\n---\n"
    (tmp_path / "google-research-datasets/mbpp/README.md").write_text(card)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    return tmp_path


@pytest.fixture
def reader(tokenizer: Any) -> Any:
    """A model that can read the prompts; it never writes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, **sizes)).eval()


def answer_to(task: str, prompt: str) -> str:
    """Return the given answer to a prompt, which names its function behind all examples."""
    number = max(range(len(BODIES)), key=lambda i: prompt.rfind(f"f_{i}("))
    return TASKS[task](number, BODIES[number][0])


class GivenAnswers:
    """Writes the given answers, stop strings and all, as a model would that knows them by heart."""

    notes: tuple[str, ...] = ()

    def __init__(self, task: str, tokenizer: Any):
        self._task, self._tokenizer = task, tokenizer

    def generate(self, prompts: Sequence[Prompt], deadline: float) -> Iterator[tuple[int, Answer]]:
        for number, prompt in enumerate(prompts):
            tokens = self._tokenizer.encode(answer_to(self._task, prompt.text), add_special_tokens=False)
            yield number, Answer(tokens=tuple(tokens), ended=True)

    def check_logits(self, tokens: Sequence[int]) -> None:
        pass

    def take_tokens(self) -> int:
        return 0


def our_scores(task: str, model: Any, tokenizer: Any) -> dict[int, float]:
    """Return the number of an item's function -> its score."""
    pools = PoolSizes(search=0, select=0, report=None)
    prepared = prepare_tasks([TaskRequest(task=task)], task_path=None, pools=pools, seed=0, allow_code=[task])
    items = {task: list(prepared.pools[task]["report"])}
    scorer = prepared.scorer(model, tokenizer, batch_size=8, generator=GivenAnswers(task, tokenizer))
    found = scorer.score(items)[task]
    texts = [prepared.describe(task, i) for i in found.ids]
    numbers = [max(range(len(BODIES)), key=lambda i, text=text: text.rfind(f"f_{i}(")) for text in texts]
    assert sorted(numbers) == list(range(len(BODIES)))
    return dict(sorted(zip(numbers, found.values, strict=True)))


@pytest.mark.parametrize("task", ["humaneval", "mbpp"])
def test_right_and_wrong_programs(
    task: str, data: Path, reader: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "Limits", lambda: Limits(seconds=1.0))  # for the endless one
    assert list(our_scores(task, reader, tokenizer).values()) == [float(right) for _, right in BODIES]
    assert "evaluate" not in sys.modules or hasattr(sys.modules["evaluate"], "EvaluationModule")
    left = [name for name in sys.modules if name.startswith(f"lm_eval.tasks.{task.partition('_')[0]}.")]
    assert not left, "lm-eval itself would take our metric for its own, in this process"


@functools.cache
def why_not_at_hand() -> str:
    """Return what evaluate raises where its own metric is not at hand, or ""; looking for it takes a second."""
    import evaluate

    try:
        evaluate.load("code_eval")
    except Exception as error:  # whatever the library raises without a network
        return type(error).__name__
    return ""


@pytest.fixture
def own_metric(data: Path) -> None:
    """evaluate's own metric, where `evaluate.load("code_eval")` finds it."""
    if "EVOMERGE_CODE_EVAL" in os.environ:
        shutil.copytree(os.environ["EVOMERGE_CODE_EVAL"], data / "code_eval")
    if missing := why_not_at_hand():
        pytest.skip(f"evaluate's code_eval is not at hand: {missing}")


@pytest.mark.slow
@pytest.mark.usefixtures("own_metric")
@pytest.mark.parametrize("task", TASKS)
def test_lm_eval_itself_gives_the_same_scores(task: str, reader: Any, tokenizer: Any) -> None:
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class KnowsAnswers(LM):
        """A model of lm-eval's, which cuts its answers off at stop strings by itself."""

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            return [cut(answer_to(task, request.args[0]), request.args[1]["until"]) for request in requests]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    def cut(answer: str, stops: Sequence[str]) -> str:
        return answer[: min((answer.find(stop) for stop in stops if stop in answer), default=len(answer))]

    ours = our_scores(task, reader, tokenizer)
    folder = Path(lm_eval.__file__).parent / "tasks" / task.partition("_")[0]
    result = lm_eval.simple_evaluate(
        KnowsAnswers(),
        tasks=[task],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        confirm_run_unsafe_code=True,
    )
    assert result is not None
    samples = result["samples"][task]
    metric = "pass@1" if task.startswith("humaneval") else "pass_at_1"
    assert ours == {sample["doc_id"]: sample[metric] for sample in samples}
    assert sum(ours.values()) / len(ours) == pytest.approx(
        next(value for key, value in result["results"][task].items() if key.startswith(f"{metric},"))
    )
