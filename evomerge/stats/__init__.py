"""What item scores prove: means, intervals, item effects, tests and the verdict.

Item scores in, numbers out, every random choice from a seed that is passed in; higher is better throughout. This
package must not import anything but the records and errors: it does not know what an item, a task or a model is, or
where anything is stored.
"""

from evomerge.stats._intervals import Interval, lower_end, paired_interval
from evomerge.stats._item_effects import ItemEffects, item_effects
from evomerge.stats._item_response import ItemResponse, item_response
from evomerge.stats._scores import (
    ScoreInterval,
    interval_of,
    mean_and_stderr,
    score_interval,
    score_of,
    wilson_interval,
)
from evomerge.stats._set_metrics import SET_METRICS, SetMetric, SetSums, set_sums
from evomerge.stats._significance import McNemar, holm, mcnemar
from evomerge.stats._verdict import (
    Comparator,
    Comparison,
    FloorCheck,
    FrontClaim,
    Verdict,
    verdict,
    with_front,
)

__all__ = [
    "SET_METRICS",
    "Comparator",
    "Comparison",
    "FloorCheck",
    "FrontClaim",
    "Interval",
    "ItemEffects",
    "ItemResponse",
    "McNemar",
    "ScoreInterval",
    "SetMetric",
    "SetSums",
    "Verdict",
    "holm",
    "interval_of",
    "item_effects",
    "item_response",
    "lower_end",
    "mcnemar",
    "mean_and_stderr",
    "paired_interval",
    "score_interval",
    "score_of",
    "set_sums",
    "verdict",
    "wilson_interval",
    "with_front",
]
