"""Write docs/tasks.md: how many of lm-eval's tasks this program runs, and why it does not run the rest.

Reads the YAML files of the installed lm-eval and the Python that their aggregations name; no data set, no network.

Usage: HF_HUB_OFFLINE=1 python scripts/make_tasks.py      writes the page (about a minute)
"""

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from evomerge.evaluation.prepare import TaskVerdict, survey

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tasks.md"
_HEAD = """# lm-eval's tasks

<!-- Written by `python scripts/make_tasks.py`. Change the script, not this page. -->

Of the {total:,} tasks of lm-eval {version} (groups and tags not counted), {accepted:,} ({share:.1f} %)
are accepted as objectives.
This is what their YAML files say: no data set was loaded, and a task whose data or Python needs what is not installed
fails when it is prepared, in one sentence. Tasks of your own go by the same rules.

| tasks | |
|---|---|
"""
_KINDS = {
    "mean": "accepted: the metric is a (weighted) mean over items, or the exponential of one",
    "set": "accepted: a metric of the whole set ([how it is compared](evaluator.md#metrics-of-the-whole-set))",
    "code": "accepted with leave, `allow_code: [TASK]`: answers are programs, or the task is a Python class "
    "([limits](evaluator.md#tasks-that-run-code))",
}
_TAIL = """
## Why the rest is not

| tasks | reason | for example |
|---|---|---|
"""
_NOTES = """
Of the accepted tasks, {second:,} need `metric:`: their first metric is aggregated by a function of their own that is no
known metric. `evomerge check` says so, and names the metrics that can be used.

A task whose metric is in the Hub's library of metrics (`hf_evaluate: true`), or whose own Python loads something, needs
a network once, while it is prepared.
"""
_MAX_EXAMPLES = 4


def page(verdicts: list[TaskVerdict]) -> str:
    """Return the page."""
    kinds = Counter(verdict.kind for verdict in verdicts)
    accepted = len(verdicts) - kinds["refused"]
    head = _HEAD.format(
        total=len(verdicts), version=version("lm_eval"), accepted=accepted, share=100 * accepted / len(verdicts)
    )
    rows = "".join(f"| {kinds[kind]:,} | {text} |\n" for kind, text in _KINDS.items())
    second = sum(verdict.kind != "refused" and not verdict.first for verdict in verdicts)
    return (
        head
        + rows
        + f"| {kinds['refused']:,} | refused |\n"
        + _TAIL
        + _refused(verdicts)
        + _NOTES.format(second=second)
    )


def _refused(verdicts: list[TaskVerdict]) -> str:
    """Return the rows of refused tasks, the most frequent reason first."""
    names: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.kind == "refused":
            names.setdefault(verdict.reason, []).append(verdict.name)
    ordered: Mapping[str, list[str]] = dict(sorted(names.items(), key=lambda item: (-len(item[1]), item[0])))
    return "".join(f"| {len(tasks):,} | {reason} | {_examples(tasks)} |\n" for reason, tasks in ordered.items())


def _examples(tasks: list[str]) -> str:
    shown = tasks[:: max(1, len(tasks) // _MAX_EXAMPLES)][:_MAX_EXAMPLES]
    return ", ".join(f"`{name}`" for name in shown)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(list(survey())), encoding="utf-8")
    print(f"{PAGE.name} is written")


if __name__ == "__main__":
    main()
