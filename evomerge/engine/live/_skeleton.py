"""A transformers model without weights, ready to be pointed at tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from evomerge.checkpoint import TensorInfo
from evomerge.engine.live._empty import empty_model
from evomerge.engine.live._parameter_map import Slot, slot_of, unfilled
from evomerge.engine.live._placement import attach_hooks, spread
from evomerge.engine.plan._records import Plan
from evomerge.errors import MergeFailed


class Skeleton:
    """The model object of one config. Its parameters hold nothing yet; its buffers are real.

    devices: of each parameter.
    """

    def __init__(self, plan: Plan, devices: Sequence[torch.device]):
        """Make the model of the plan's config, in the plan's dtype; its blocks are spread over the devices."""
        self.model: Any = empty_model(plan.config, plan.dtype)
        self.model.eval()
        self.model.tie_weights()
        self.family = str(plan.config.get("model_type"))
        named = _named(self.model)
        self._shapes = {name: tensor.shape for name, tensor in named.items()}
        first: dict[int, str] = {}
        self._tied = {name: first.setdefault(id(tensor), name) for name, tensor in named.items()}
        sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in named.items()}
        self.devices = spread(sizes, self._tied, devices)
        _hollow(self.model, {id(named[name]): device for name, device in self.devices.items()}, devices[0])
        if len(devices) > 1:
            attach_hooks(self.model, self.devices, devices[0])
        self.parameters: Mapping[str, torch.Tensor] = _named(self.model)
        self._slots: dict[str, Slot | None] = {}

    def slots(self, plan: Plan) -> dict[str, Slot]:
        """Return where each planned tensor goes.

        Raises:
            MergeFailed: the model has no place for one, or a place of another shape, or one is left empty.
        """
        found = {tensor.name: self._slot(tensor.name) for tensor in plan.tensors}
        for tensor in plan.tensors:
            slot = found[tensor.name]
            if slot is None:
                raise MergeFailed(
                    f"{self.family} has no place for {tensor.name} in memory, so it cannot be scored; merging to a "
                    "folder works"
                )
            self._check_shape(tensor.name, slot, tensor.info)
        known = {name: slot for name, slot in found.items() if slot}
        empty = unfilled(known.values(), self._shapes, self._tied)
        if empty is not None:
            raise MergeFailed(f"the parents hold no {empty}, which a {self.family} model needs")
        return known

    def shape(self, parameter: str) -> torch.Size:
        """Return the shape that a parameter has."""
        return self._shapes[parameter]

    def _slot(self, name: str) -> Slot | None:
        if name not in self._slots:
            self._slots[name] = slot_of(name, self._shapes, self.model.base_model_prefix)
        return self._slots[name]

    def _check_shape(self, name: str, slot: Slot, info: TensorInfo) -> None:
        shape = self._shapes[slot.parameter]
        if slot.expert is not None:
            if slot.expert >= shape[0]:
                raise MergeFailed(f"{name}: the config speaks of {shape[0]} experts")
            shape = shape[1:] if slot.half is None else torch.Size([shape[1] // 2, *shape[2:]])
        if tuple(shape) != info.shape:
            raise MergeFailed(f"{name} is {list(info.shape)}, but the config makes it {list(shape)}")


def _named(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter and persistent buffer by name; tied ones appear under each of their names."""
    named: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    persistent = set(model.state_dict(keep_vars=True))
    named.update({name: buffer for name, buffer in model.named_buffers() if name in persistent})
    return named


def _hollow(model: nn.Module, devices: Mapping[int, torch.device], main: torch.device) -> None:
    """Replace every parameter by an empty one on its device; a tied parameter stays one object.

    devices: by id of the parameter. main: for buffers.
    """
    hollow: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) not in hollow:
                empty = parameter.new_empty(0, device=devices[id(parameter)])
                hollow[id(parameter)] = nn.Parameter(empty, requires_grad=False)
            module._parameters[name] = hollow[id(parameter)]
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(devices.get(id(buffer), main))
