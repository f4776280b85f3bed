"""What an item adds to a metric of the whole set, from what the task's `process_results` gave for it."""

import functools
import hashlib
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.errors import EvomergeError
from evomerge.records import SetParts
from evomerge.stats import SET_METRICS

# lm-eval's aggregations that are functions of sums over the items -> the metric that `evomerge.stats` computes.
OF_AGGREGATION: Mapping[str, str] = {
    "bleu": "bleu",
    "chrf": "chrf",
    "chrf++": "chrf++",
    "ter": "ter",
    "f1": "f1",
    "matthews_corrcoef": "matthews_corrcoef",
    "nanmean": "ratio",
    "macro_f1": "macro_f1",
    "micro_f1": "micro_f1",
    "weighted_f1": "weighted_f1",
    "mean_of_lists": "ratio",
}
_TRIALS, _TRIAL_ITEMS = 6, 24  # made-up sets of a task's own aggregation, and the items of each
_SAME = 1e-9  # two ways to compute one metric differ by rounding alone


def row_of(aggregation: str, raw: Any) -> tuple[float, ...]:
    """Return an item's row (see `SetParts.rows`).

    Raises:
        TypeError: `raw` is not what the aggregation works on.
        ValueError: the same.
    """
    metric = OF_AGGREGATION[aggregation]
    if aggregation == "nanmean":
        value = math.nan if raw is None else float(raw)
        return (0.0, 0.0) if math.isnan(value) else (value, 1.0)
    if aggregation == "mean_of_lists":
        return float(sum(raw)), float(len(raw))
    right, given = raw
    if metric in ("bleu", "chrf", "chrf++", "ter"):
        return _text_row(metric, right, given)
    labels = _label(right), _label(given)
    if metric == "f1" and not set(labels) <= {0.0, 1.0}:
        raise ValueError("F1 takes the labels 0 and 1")
    return labels


def own_value(parts: SetParts, row: tuple[float, ...]) -> float:
    """Return the value of an item by itself, higher is better: right or wrong, a mean, or the metric of one item."""
    if parts.metric in ("bleu", "chrf", "chrf++", "ter"):
        return parts.sign * _of_rows(parts.metric, [row])
    if parts.metric == "ratio":
        return parts.sign * row[0] / row[1] if row[1] else 0.0
    return parts.sign * float(row[0] == row[1])


def check_own(name: str, parts: SetParts | None, function: Callable[..., Any], raws: Sequence[Any]) -> None:
    """Make sure that a task's own aggregation is the metric that it was taken for.

    Args:
        name: of the objective.
        parts: of the items; None where it was taken for the mean.
        function: the aggregation.
        raws: what the task computed for each item.

    Raises:
        EvomergeError: it gives another number for these items.
    """
    known = "mean" if parts is None else parts.metric
    found = sum(raws) / len(raws) if parts is None else _of_rows(parts.metric, parts.rows)
    expected = float(function(list(raws)))
    if not math.isclose(found, expected, rel_tol=_SAME, abs_tol=_SAME):
        raise EvomergeError(
            f"{name}: the task's own aggregation gives {expected} for these items, and {known}, which it was taken "
            f"for, {found}; name another metric of the task"
        )


def name_of_own(function: Callable[..., Any]) -> str | None:
    """Return which known aggregation a task's own function is, by what it gives for made-up items; None = none.

    It is checked again, with the real items, whenever it is used (`check_own`).
    """
    generator = np.random.Generator(np.random.PCG64(0))
    values = [[float(v) for v in generator.random(_TRIAL_ITEMS)] for _ in range(_TRIALS)]
    if _agrees(function, values, lambda items: sum(items) / len(items)):
        return "mean"
    lists = [
        [[bool(v) for v in generator.integers(0, 2, generator.integers(1, 4))] for _ in range(_TRIAL_ITEMS)]
        for _ in range(_TRIALS)
    ]
    if _agrees(function, lists, lambda items: sum(map(sum, items)) / sum(map(len, items))):
        return "mean_of_lists"
    for name in ("macro_f1", "micro_f1", "weighted_f1", "matthews_corrcoef", "f1"):
        labels = 2 if name == "f1" else 3
        pairs = [
            [(int(a), int(b)) for a, b in generator.integers(0, labels, (_TRIAL_ITEMS, 2))] for _ in range(_TRIALS)
        ]
        if _agrees(function, pairs, functools.partial(_of_rows, name)):
            return name
    return None


def _agrees(function: Callable[..., Any], sets: Sequence[list[Any]], expected: Callable[[Any], float]) -> bool:
    """Tell whether a function gives what is expected for each set; whatever it raises means that it does not."""
    try:
        return all(math.isclose(float(function(list(items))), expected(items), abs_tol=_SAME) for items in sets)
    except Exception:  # the function is anybody's, and these items are not its own
        return False


def _of_rows(name: str, rows: Sequence[tuple[float, ...]]) -> float:
    """Return a set's metric in its own direction."""
    metric = SET_METRICS[name]
    return float(metric.value(metric.sums(np.array(rows, dtype=np.float64)).sum(axis=0, keepdims=True))[0])


def _label(label: Any) -> float:
    """Return a label as a number: text by its hash, which no two labels of a task share but by a chance of 2^-48."""
    if isinstance(label, str):
        return float(1 + int.from_bytes(hashlib.sha256(label.encode()).digest()[:6], "big"))
    if not isinstance(label, numbers.Real) or not math.isfinite(label):
        raise TypeError("a label is a number or a text")
    return float(label)


def _text_row(metric: str, right: Any, given: Any) -> tuple[float, ...]:
    """Return sacrebleu's statistics of an answer beside one reference or several."""
    references = [right] if isinstance(right, str) else list(right)
    (answer,) = [given] if isinstance(given, str) else given
    if not references or not all(isinstance(text, str) for text in [answer, *references]):
        raise TypeError("an answer and its references are texts")
    return tuple(float(v) for v in _statistics(metric)([answer], [[text] for text in references])[0])


@functools.cache
def _statistics(metric: str) -> Callable[[Sequence[str], Sequence[Sequence[str]]], Any]:
    """Return sacrebleu's function of (answers, references) that gives each answer's statistics."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    made: dict[str, Callable[[], Any]] = {
        "bleu": BLEU,
        "chrf": CHRF,
        "chrf++": functools.partial(CHRF, word_order=2),
        "ter": TER,
    }
    found: Callable[[Sequence[str], Sequence[Sequence[str]]], Any] = made[metric]()._extract_corpus_statistics
    return found
