"""A resident transformers model that is overwritten in place, candidate after candidate, and its check.

May use `engine.plan`; must not import the checkpoint sink.
"""

from evomerge.engine.live._gradients import GradientTable, collected_gradients
from evomerge.engine.live._model import LiveModel
from evomerge.engine.live._self_check import self_check

__all__ = ["GradientTable", "LiveModel", "collected_gradients", "self_check"]
