"""The page about lm-eval's tasks says what is found of them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evomerge.evaluation.prepare import TaskVerdict, survey

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
Page = Callable[[list[TaskVerdict]], str]


@pytest.fixture
def page() -> Iterator[Page]:
    sys.path.insert(0, str(SCRIPTS))
    import make_tasks

    yield make_tasks.page
    sys.path.remove(str(SCRIPTS))


def test_verdicts_of_some_tasks() -> None:
    names = ["arc_easy", "cola", "humaneval", "squadv2", "wikitext", "truthfulqa_gen", "ifeval", "mmlu"]
    found = {verdict.name: verdict for verdict in survey(names)}
    assert "mmlu" not in found  # a group
    kinds = {name: verdict.kind for name, verdict in found.items()}
    assert kinds["arc_easy"] == kinds["wikitext"] == kinds["ifeval"] == "mean"
    assert kinds["humaneval"] == kinds["squadv2"] == "code"
    assert kinds["cola"] == "set"


def test_the_page_counts_each_task_once(page: Page) -> None:
    verdicts = [TaskVerdict(name=f"a{i}", kind="mean", first=i > 0) for i in range(1000)]
    verdicts += [TaskVerdict(name="b", kind="code"), TaskVerdict(name="c", kind="refused", reason="it needs images")]
    text = page(verdicts)
    assert "1,001 (99.9 %) are accepted" in " ".join(text.split())
    assert "| 1,000 | accepted: the metric is a" in text and "| 1 | it needs images | `c` |" in text
    assert "Of the accepted tasks, 1 need" in text


@pytest.mark.parametrize("count", [0, 1])
def test_a_page_of_hardly_any_task(page: Page, count: int) -> None:
    assert "refused" in page([TaskVerdict(name="a", kind="mean"), *[TaskVerdict(name="b", kind="refused")] * count])
