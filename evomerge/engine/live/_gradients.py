"""Derivatives by recipe parameters, collected while backward passes run through the live model.

The gradient of each parameter of the model is used in a hook as soon as it is complete, and freed: no second copy of
the weights ever exists. What the activations may take is bounded (`_activations.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evomerge import methods
from evomerge.engine._plan_records import Plan, TensorPlan
from evomerge.engine.live._activations import bounded_activations, checkpointed_blocks
from evomerge.engine.live._model import LiveModel
from evomerge.methods import Direction

GradientTable = npt.NDArray[np.float64]
"""(planned tensors, directions): the derivative by each direction through each tensor, in the order of the plan."""


@contextmanager
def collected_gradients(
    live: LiveModel, plan: Plan, directions: Sequence[Direction], *, checkpoints: bool = False
) -> Iterator[GradientTable]:
    """Collect the derivatives of whatever is differentiated within the context, summed over all backward passes.

    Args:
        live: the model, which `live.apply(plan)` has turned into the merge.
        plan: of the merge.
        directions: which parameters.
        checkpoints: keep the inputs of the model's blocks alone: less memory and more time; the same numbers, but for
            rounding behind tree masks.

    Yields:
        The table. 0 where a tensor does not depend on a parameter, or the differentiated number not on the tensor; NaN
        where a method has no result for the parameter a little larger or smaller.

    Raises:
        MemoryError: from within a forward pass, if its activations take more than this process's share of the memory.
    """
    table: GradientTable = np.zeros((len(plan.tensors), len(directions)))
    rows: dict[str, list[int]] = {}
    for row, tensor in enumerate(plan.tensors):
        part = live.part(tensor.name)
        if part is not None and _depends(tensor, directions):
            rows.setdefault(part.parameter, []).append(row)
    known = dict(live.model.named_parameters(remove_duplicate=False))
    wanted = {name: known[name] for name in rows if name in known}
    handles = []
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for name, parameter in wanted.items():
                parameter.requires_grad_(True)
                hook = _hook(live, [(row, plan.tensors[row]) for row in rows[name]], directions, table)
                handles.append(parameter.register_post_accumulate_grad_hook(hook))
            with (
                bounded_activations(live.model, live.activation_limit_bytes),
                checkpointed_blocks(live.model) if checkpoints else nullcontext(),
            ):
                yield table
        finally:
            for handle in handles:
                handle.remove()
            for parameter in wanted.values():
                parameter.grad = None
                parameter.requires_grad_(False)


def _depends(tensor: TensorPlan, directions: Sequence[Direction]) -> bool:
    """Tell whether a tensor is merged by a method that depends on one of the parameters."""
    known = methods.directions(methods.get(tensor.method), tensor.settings)
    return not tensor.copied and tensor.dtype.is_floating_point and any(direction in directions for direction in known)


def _hook(
    live: LiveModel, tensors: Sequence[tuple[int, TensorPlan]], directions: Sequence[Direction], table: GradientTable
) -> Callable[[nn.Parameter], None]:
    """Return what is called when the gradient of a parameter is complete; it adds to the rows of its tensors."""

    def use(parameter: nn.Parameter) -> None:
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        with torch.no_grad():
            for row, tensor in tensors:
                part = live.part(tensor.name)
                assert part is not None
                own = part.view(gradient).contiguous()
                table[row] += live.builder(parameter.device).derivatives(tensor, own, directions)

    return use
