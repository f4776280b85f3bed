"""A scorer gets the live model itself, whose weights may be a parent's own: nothing it does may reach what follows.

Settings that scorers often change (training mode, gradients, hooks, config, generation settings) are put back. Weights
and modules are compared with what they were, because a copy for each call would take the memory of a second model.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from evomerge.errors import ModelChanged

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_CONSTANT = (bool, int, float, str, type(None))  # most attributes of a config; a copy of one is itself
_LANE_NUMBERS = 1024  # of a checksum: sums of every so many-th number, so that numbers that change places show, too


class _TensorState(NamedTuple):
    """What must not change of a tensor.

    Attributes:
        address: of its memory.
        dtype: of its elements.
        shape: its extents.
        checksum: of its content.
    """

    address: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    checksum: int


@contextmanager
def settings_restored(model: "PreTrainedModel") -> Iterator[None]:
    """Put modes, hooks, config and generation settings back as they were."""
    modules = [(module, module.training) for module in model.modules()]
    present = [getattr(module, name) for module, _ in modules for name in _HOOKS]
    hooks = [(own, dict(own) if own else None) for own in present]  # most have none, and there are many
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    restored = [_content_of(getattr(model, name, None)) for name in ("config", "generation_config")]
    settings = getattr(model, "generation_config", None)
    try:
        yield
    finally:
        for module, training in modules:
            module.training = training
        for own, before in hooks:
            if own or before:
                own.clear()
                own.update(before or {})
        for parameter, required in gradients:
            parameter.grad = None
            if parameter.requires_grad != required:
                parameter.requires_grad_(required)
        if settings is not None:
            model.generation_config = settings
        for put_back in restored:
            put_back()


def _content_of(value: object) -> Callable[[], None]:
    """Return what puts the attributes of a config, and of those inside it, back as they are now.

    The objects themselves stay, because modules refer to them.
    """
    if value is None:
        return lambda: None
    inner = {name: part for name, part in vars(value).items() if hasattr(part, "to_dict")}
    others = {name: part for name, part in vars(value).items() if name not in inner}
    changeable = copy.deepcopy({name: part for name, part in others.items() if type(part) not in _CONSTANT})
    plain = {name: changeable.get(name, part) for name, part in others.items()}
    further = [_content_of(part) for part in inner.values()]

    def put_back() -> None:
        vars(value).clear()
        vars(value).update({**plain, **inner})
        for put_inner_back in further:
            put_inner_back()

    return put_back


@contextmanager
def weights_guarded(model: "PreTrainedModel", scorer: str) -> Iterator[None]:
    """Compare the weights and modules after a call with those before it: two passes over the weights.

    Args:
        model: the live model.
        scorer: what is called, for the message.

    Raises:
        ModelChanged: something is another one. It is raised instead of what the call raised.
    """
    before, modules = _looked_at(model)

    def problem() -> ModelChanged | None:
        after, modules_after = _looked_at(model)
        changed = [name for name in before if after.get(name) != before[name]]
        if not changed and after.keys() == before.keys() and modules_after == modules:
            return None
        what = f"{len(changed)} tensors, such as {changed[0]}" if changed else "its modules"
        return ModelChanged(
            f"{scorer} changed the model that it scores ({what}); let it work on copy.deepcopy(model), or undo what it "
            "does before it returns"
        )

    try:
        yield
    except Exception as error:
        found = problem()
        if found is not None:
            raise found from error
        raise
    found = problem()
    if found is not None:
        raise found


def _looked_at(model: nn.Module) -> tuple[dict[str, _TensorState], list[tuple[str, int]]]:
    """Return the state of every parameter and buffer, and the modules by name."""
    modules = list(model.named_modules(remove_duplicate=False))
    known: dict[int, int] = {}  # tied tensors are read once
    states = {}
    with torch.inference_mode():
        for place, module in modules:
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is None:
                    continue
                address = tensor.data_ptr()
                if address not in known:
                    known[address] = _checksum(tensor)
                full = f"{place}.{name}" if place else name
                states[full] = _TensorState(address, tensor.dtype, tuple(tensor.shape), known[address])
    return states, [(name, id(module)) for name, module in modules]


def _checksum(tensor: torch.Tensor) -> int:
    """Return a number that changes with the content, but for changes made to leave it alone."""
    flat = tensor.detach().reshape(-1).view(torch.uint8)
    whole = flat.numel() // (8 * _LANE_NUMBERS) * (8 * _LANE_NUMBERS)
    if flat.is_cpu:
        content = flat.numpy()
        if not whole:
            return hash(content.tobytes())
        lanes = content[:whole].view(np.int64).reshape(-1, _LANE_NUMBERS).sum(0).tobytes()
        return hash((lanes, content[whole:].tobytes()))
    on_device = flat[:whole].view(torch.int64).view(-1, _LANE_NUMBERS).sum(0)
    return hash((on_device.cpu().numpy().tobytes(), flat[whole:].cpu().numpy().tobytes()))
