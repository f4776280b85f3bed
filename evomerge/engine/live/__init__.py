"""A resident transformers model that is overwritten in place, candidate after candidate, and its check.

May use `engine.plan`; must not import the checkpoint sink.
"""

from evomerge.engine.live._gradients import GradientTable, collected_gradients
from evomerge.engine.live._model import LiveModel
from evomerge.engine.live._placement import attach_hooks, spread
from evomerge.engine.live._self_check import count_mismatches, self_check

__all__ = [
    "GradientTable",
    "LiveModel",
    "attach_hooks",
    "collected_gradients",
    "count_mismatches",
    "self_check",
    "spread",
]
