"""A transformers model without weights, ready to be pointed at tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from evomerge.checkpoint import ParameterMap, ParameterPart, config_object, generative_class, named_tensors
from evomerge.engine._plan_records import Plan
from evomerge.engine.live._placement import attach_hooks, spread
from evomerge.errors import MergeFailed


class Skeleton:
    """The model object of one config. Its parameters hold nothing yet; its buffers are real.

    Attributes:
        model: the transformers model.
        devices: parameter name -> the device that its memory has to be on.
        parameters: parameter name -> the empty parameter.
    """

    def __init__(self, plan: Plan, devices: Sequence[torch.device]):
        """Make the model of the plan's config, in the plan's dtype.

        Args:
            plan: says config and dtype.
            devices: the model's blocks are spread over them.

        Raises:
            MergeFailed: the config describes no causal language model.
        """
        self.model: nn.Module = empty_model(plan.config, plan.dtype)
        self.model.eval()
        self.model.tie_weights()
        self._family = str(plan.config.get("model_type"))
        self._map = ParameterMap(self.model)
        named = named_tensors(self.model)
        sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in named.items()}
        self.devices = spread(sizes, self._map.tied, devices)
        _strip_parameters(self.model, {id(named[name]): device for name, device in self.devices.items()}, devices[0])
        if len(devices) > 1:
            attach_hooks(self.model, self.devices, devices[0])
        self.parameters: Mapping[str, torch.Tensor] = named_tensors(self.model)

    def locate(self, plan: Plan) -> Mapping[str, ParameterPart | None]:
        """Return where each planned tensor goes; None = the model reads no such tensor.

        Raises:
            MergeFailed: the model has no place for one, or a place of another shape, or one is left empty.
        """
        fit = self._map.fit({tensor.name: tensor.shape for tensor in plan.tensors})
        if fit.unexpected is not None:
            raise MergeFailed(
                f"{self._family} has no place for {fit.unexpected} in memory, so it cannot be scored; merging to a "
                "folder works"
            )
        if fit.unknown is not None:
            raise MergeFailed(
                f"transformers converts {fit.unknown} of a {self._family} as it is loaded, so it cannot be overwritten "
                "in memory and scored; merging to a folder works"
            )
        if fit.mismatched is not None:
            raise MergeFailed(fit.mismatched)
        if fit.missing is not None:
            raise MergeFailed(f"the parents hold no {fit.missing}, which a {self._family} model needs")
        return fit.parts

    def shape(self, parameter: str) -> torch.Size:
        """Return the shape that a parameter has."""
        return self._map.shapes[parameter]


def empty_model(config: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    """Return the language model of a config; its parameters are on the meta device, its buffers are real.

    Of a vision-language config it is the whole model, which a text reaches only the language model of.

    Raises:
        MergeFailed: the config describes no causal language model.
    """
    from accelerate import init_empty_weights
    from transformers.initialization import no_init_weights

    described = config_object(config)
    kind = generative_class(config, described)
    if kind is None:
        raise MergeFailed(
            f"a {config.get('model_type', 'model')} is no causal language model, so it cannot be scored; merging to a "
            "folder works"
        )
    # Random weights would be drawn for nothing: parameters have no memory yet, and buffers are filled below.
    with init_empty_weights(include_buffers=False), no_init_weights():
        model: nn.Module = kind._from_config(described, dtype=dtype)
    _fill_buffers(model, model)
    return model


def _fill_buffers(module: nn.Module, owner: Any) -> None:
    """Compute the buffers that no file holds in full precision, as when a model is loaded from its files.

    Args:
        module: whose buffers, and those of its children.
        owner: the innermost transformers model around it, which knows how.
    """
    from transformers import PreTrainedModel

    owner = module if isinstance(module, PreTrainedModel) else owner
    for child in module.children():
        _fill_buffers(child, owner)
    if module._non_persistent_buffers_set:
        owner._init_weights(module)


def _strip_parameters(model: nn.Module, devices: Mapping[int, torch.device], main: torch.device) -> None:
    """Replace every parameter by an empty one on its device; a tied parameter stays one object.

    Args:
        model: changed in place.
        devices: id of a parameter or buffer -> its device.
        main: for all other buffers.
    """
    stripped: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) not in stripped:
                empty = parameter.new_empty(0, device=devices[id(parameter)])
                stripped[id(parameter)] = nn.Parameter(empty, requires_grad=False)
            module._parameters[name] = stripped[id(parameter)]
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(devices.get(id(buffer), main))
