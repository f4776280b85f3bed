"""Stats: what item scores prove. Means, paired intervals, item effects and the verdict.

It knows numbers only: item scores in, numbers out, every random choice from a seed that is passed in. It refuses to
know what an item, a task or a model is, and where anything is stored. Higher is better throughout.
"""

from evomerge.stats._intervals import Interval, paired_interval
from evomerge.stats._item_effects import ItemEffects, item_effects
from evomerge.stats._scores import mean_and_stderr
from evomerge.stats._verdict import (
    Comparator,
    Comparison,
    Verdict,
    verdict,
)

__all__ = [
    "Comparator",
    "Comparison",
    "Interval",
    "ItemEffects",
    "Verdict",
    "item_effects",
    "mean_and_stderr",
    "paired_interval",
    "verdict",
]
