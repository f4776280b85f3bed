"""What to build: one `TensorPlan` for each output tensor, from a recipe and the parents' headers. No tensor is read.

Must not import `engine.live`, the checkpoint sink or the estimate.
"""

from evomerge.engine.plan._planner import make_plan

__all__ = ["make_plan"]
