"""Recipe + parents -> tensors: one plan, one way to build a tensor, two sinks (a folder, a live model).

What is scored in the live sink is what the folder sink writes, bit for bit on the same kind of device, because both
run the same plan through the same builder. This room refuses to know spaces, tasks and scores.
"""

from evomerge.engine._build import Builder
from evomerge.engine._checkpoint_sink import Progress, write_folder
from evomerge.engine._estimate import Estimate, estimate
from evomerge.engine._relatedness import Relatedness, relatedness
from evomerge.engine._tokenizer import output_tokenizer, vocabulary_notes
from evomerge.engine.live._model import LiveModel
from evomerge.engine.live._residency import MemoryShare, Tier, tier_of
from evomerge.engine.live._self_check import self_check
from evomerge.engine.plan._planner import make_plan
from evomerge.engine.plan._records import (
    Origin,
    Plan,
    Rows,
    TensorPlan,
)

__all__ = [
    "Builder",
    "Estimate",
    "LiveModel",
    "MemoryShare",
    "Origin",
    "Plan",
    "Progress",
    "Relatedness",
    "Rows",
    "TensorPlan",
    "Tier",
    "estimate",
    "make_plan",
    "output_tokenizer",
    "relatedness",
    "self_check",
    "tier_of",
    "vocabulary_notes",
    "write_folder",
]
